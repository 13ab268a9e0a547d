// The limited process that opens HDF5 files (hdf5_description.h says why). It is this program started under another
// name, argument 0; a function that runs before main() sees that and never comes to main. So the commands and the test
// programs alike have it, and no command line reaches it.
//
// It finds the file at descriptor 3 and writes to descriptor 1. Exit codes: 0, 65 and 74 (then the output is the
// reason), or a signal.
#pragma once

namespace carillon {

inline constexpr const char* kHdf5ChildName = "carillon-hdf5-reader";
inline constexpr int kHdf5ChildFile = 3;

// The child's arguments after its name: "describe" MIB, or "unpack" MIB DATASET. MIB: of memory it may take beyond
// what it starts with.

// Keeps the linker from leaving hdf5_child.cpp out; does nothing.
void link_hdf5_child();

}  // namespace carillon
