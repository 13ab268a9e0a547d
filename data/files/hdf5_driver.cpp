#include "data/files/hdf5_driver.h"

#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "data/files/posix_file.h"

namespace carillon {
namespace {

// The property list stores the pointer by value.
struct Access {
  Hdf5Disk* disk;
};

struct OpenFile {
  H5FD_t shared;  // HDF5's own part; must be first
  Hdf5Disk* disk;
  haddr_t end_of_space;
};

OpenFile* ours(H5FD_t* file) { return reinterpret_cast<OpenFile*>(file); }
const OpenFile* ours(const H5FD_t* file) { return reinterpret_cast<const OpenFile*>(file); }

void remember(Hdf5Disk& disk, int reason) {
  if (disk.error == 0) disk.error = reason;
}

H5FD_t* open_file(const char*, unsigned, hid_t access, haddr_t) {
  const auto* given = static_cast<const Access*>(H5Pget_driver_info(access));
  if (given == nullptr) return nullptr;
  auto* file = static_cast<OpenFile*>(std::calloc(1, sizeof(OpenFile)));
  if (file == nullptr) return nullptr;
  file->disk = given->disk;
  return &file->shared;
}

herr_t close_file(H5FD_t* file) {
  std::free(file);
  return 0;
}

int compare(const H5FD_t* a, const H5FD_t* b) {
  const auto x = reinterpret_cast<uintptr_t>(ours(a)->disk), y = reinterpret_cast<uintptr_t>(ours(b)->disk);
  return x < y ? -1 : x > y ? 1 : 0;
}

// The same flags as HDF5's driver for local files, so that files are byte for byte the same.
herr_t query(const H5FD_t*, unsigned long* flags) {
  if (flags != nullptr)
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t get_end_of_space(const H5FD_t* file, H5FD_mem_t) { return ours(file)->end_of_space; }
herr_t set_end_of_space(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  ours(file)->end_of_space = end;
  return 0;
}
haddr_t get_end_of_file(const H5FD_t* file, H5FD_mem_t) { return static_cast<haddr_t>(ours(file)->disk->size); }

herr_t read_bytes(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t at, size_t bytes, void* to) {
  Hdf5Disk& disk = *ours(file)->disk;
  const int64_t count = read_up_to(disk.descriptor, static_cast<int64_t>(at), to, static_cast<int64_t>(bytes));
  if (count < 0) {
    remember(disk, errno);
    return -1;
  }
  // Past the end of the file is space that was allocated but not written yet: it reads as zeros.
  std::memset(static_cast<char*>(to) + count, 0, bytes - static_cast<size_t>(count));
  return 0;
}

herr_t write_bytes(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t at, size_t bytes, const void* from) {
  Hdf5Disk& disk = *ours(file)->disk;
  if (disk.error == 0)
    remember(disk, write_all(disk.descriptor, static_cast<int64_t>(at), from, static_cast<int64_t>(bytes)));
  disk.size = std::max(disk.size, static_cast<int64_t>(at + bytes));
  return 0;
}

// Extends the file to the end of the allocated space.
herr_t truncate_file(H5FD_t* file, hid_t, hbool_t) {
  Hdf5Disk& disk = *ours(file)->disk;
  const auto end = static_cast<int64_t>(ours(file)->end_of_space);
  if (end == disk.size) return 0;
  if (disk.error == 0) {
    int result = 0;
    do result = ::ftruncate(disk.descriptor, end);
    while (result != 0 && errno == EINTR);
    if (result != 0) remember(disk, errno);
  }
  disk.size = end;
  return 0;
}

H5FD_class_t make_class() {
  H5FD_class_t driver;
  std::memset(&driver, 0, sizeof driver);
  driver.name = "carillon";
  driver.maxaddr = (haddr_t{1} << 62) - 1;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Access);
  driver.open = open_file;
  driver.close = close_file;
  driver.cmp = compare;
  driver.query = query;
  driver.get_eoa = get_end_of_space;
  driver.set_eoa = set_end_of_space;
  driver.get_eof = get_end_of_file;
  driver.read = read_bytes;
  driver.write = write_bytes;
  driver.truncate = truncate_file;
  const H5FD_mem_t free_lists[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(free_lists), std::end(free_lists), driver.fl_map);
  return driver;
}

}  // namespace

int64_t disk_access(Hdf5Disk& disk) {
  static const H5FD_class_t driver_class = make_class();
  static const hid_t driver = H5FDregister(&driver_class);
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  const Access given{&disk};
  H5Pset_driver(access, driver, &given);
  return access;
}

}  // namespace carillon
