// The restricted process that opens HDF5 files (hdf5_description.h says why). It is this program, started under another
// name (argument 0). A function that runs before main() recognises the name, does the work and never reaches main(). So
// it works the same in the commands and in the test programs, and no command line can trigger it.
//
// It reads the file from descriptor 3 and writes to descriptor 1. It ends with exit code 0, 65 or 74 (its output is
// then the reason), or by a signal.
#pragma once

namespace carillon {

inline constexpr const char* kHdf5ChildName = "carillon-hdf5-reader";
inline constexpr int kHdf5ChildFile = 3;

// The child's arguments after its name are "describe" MIB, or "unpack" MIB DATASET. MIB is the memory it may allocate
// in addition to what it starts with.

// Makes the linker keep hdf5_child.cpp; does nothing.
void link_hdf5_child();

}  // namespace carillon
