// How HDF5 reaches the disk: through our own system calls (a "virtual file driver"), which keep the disk's errors from
// the library. A library that was told of a failed write cannot close its file any more and ends in a crash or a hang,
// as late as in MPI_Finalize. So a write that fails is remembered here, what follows is not written, and HDF5 goes on
// in good faith; its user asks for `error` after every call. A read that fails is remembered too, so that a
// disk that does not answer is distinguished from a damaged file.
#pragma once

#include <cstdint>

namespace carillon {

// Outlives the HDF5 file that is opened with it.
struct Hdf5Disk {
  int descriptor = -1;  // open; the file's owner closes it
  int64_t size = 0;     // bytes on the disk
  int error = 0;        // errno of the first system call that failed
};

// A file-access property list (an hid_t) whose files live on `disk`; the path given to HDF5 is then a name only. The
// caller closes it with H5Pclose.
int64_t disk_access(Hdf5Disk& disk);

}  // namespace carillon
