// A virtual file driver through which HDF5 uses the disk: our own system calls, which hide disk errors from the
// library. If HDF5 is told of a failed write, it cannot close its file any more and crashes or hangs, possibly as late
// as in MPI_Finalize. So the driver remembers a failed write, skips all later ones, and reports success to HDF5; the
// user checks `error` after every call. A failed read is remembered as well, so that a disk that does not answer can be
// distinguished from a damaged file.
#pragma once

#include <cstdint>

namespace carillon {

// Must outlive the HDF5 file opened with it.
struct Hdf5Disk {
  int descriptor = -1;  // open; closed by the file's owner
  int64_t size = 0;     // bytes on disk
  int error = 0;        // errno of the first system call that failed
};

// Returns a file-access property list (an hid_t) for files on `disk`; the path given to HDF5 is then only a name. The
// caller closes it with H5Pclose.
int64_t disk_access(Hdf5Disk& disk);

}  // namespace carillon
