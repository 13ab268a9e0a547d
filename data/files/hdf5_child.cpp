#include "data/files/hdf5_child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <vector>

#include "data/files/hdf5_driver.h"
#include "data/files/hdf5_library.h"
#include "data/files/packed_text.h"
#include "data/files/sealed_process.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr int kOutput = 1;
constexpr int kDeepestGroup = 32;
constexpr size_t kMostObjects = 1'000'000;
constexpr int kMostDims = 8;
// Compressed elements may be this much larger than the file. Weights and tokens compress to a quarter at best, a
// decompression bomb to a thousandth.
constexpr int64_t kLargestExpansion = 16;
constexpr int64_t kBytesAtOnce = int64_t{16} << 20;

[[noreturn]] void damaged(const std::string& what) { throw Error(ExitCode::kBadInput, what); }

// This process's access to the file; tells whether a failure was the disk's.
Hdf5Disk& disk() {
  static Hdf5Disk only;
  return only;
}

[[noreturn]] void library_failed(const std::string& what) {
  if (disk().error != 0) throw Error(ExitCode::kInputOutput, what + " (" + std::strerror(disk().error) + ")");
  damaged(what);
}

void write_out(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(kOutput, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error(ExitCode::kInputOutput, std::string("writing failed (") + std::strerror(errno) + ")");
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

// What is known about one dataset.
struct Facts {
  int64_t type = -1;
  std::vector<int64_t> shape;
  int64_t place = -1;
  std::string refused;
};

// elements · width, or -1 if that does not fit in 63 bits.
int64_t size_of_shape(const std::vector<int64_t>& shape, int64_t width) {
  int64_t bytes = width;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return -1;
  return bytes;
}

void check_shape(Facts& facts, hid_t space) {
  switch (H5Sget_simple_extent_type(space)) {
    case H5S_SCALAR:
      facts.shape = {1};
      return;
    case H5S_SIMPLE:
      break;
    default:
      facts.refused = "has no elements' space";
      return;
  }
  hsize_t sizes[H5S_MAX_RANK];
  const int dims = H5Sget_simple_extent_ndims(space);
  if (dims < 1 || dims > kMostDims || H5Sget_simple_extent_dims(space, sizes, nullptr) != dims) {
    facts.refused = "has " + std::to_string(dims) + " dims";
    return;
  }
  for (int i = 0; i < dims; ++i) {
    if (sizes[i] > uint64_t{INT64_MAX}) facts.refused = "has a size beyond 63 bits";
    facts.shape.push_back(static_cast<int64_t>(sizes[i]));
  }
}

// Whether this process can undo all filters; sets `compressed` if one of them may shrink the data.
bool known_filters(hid_t creation, bool& compressed) {
  const int filters = H5Pget_nfilters(creation);
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0;
    size_t values = 0;
    switch (H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, &config)) {
      case H5Z_FILTER_FLETCHER32:
      case H5Z_FILTER_SHUFFLE:
        break;
      case H5Z_FILTER_DEFLATE:
        compressed = true;
        break;
      default:
        return false;
    }
  }
  return filters >= 0;
}

void check_layout(Facts& facts, hid_t file, hid_t dataset, int64_t bytes, int64_t file_size) {
  const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose), files(H5Fget_create_plist(file), H5Pclose);
  if (!creation.valid()) library_failed("its layout cannot be read");
  if (H5Pget_external_count(creation) != 0) {
    facts.refused = "lies in another file (external storage), which is not read";
    return;
  }
  bool compressed = false;
  if (!known_filters(creation, compressed)) {
    facts.refused = "is stored through a filter that is not read";
    return;
  }
  const H5D_layout_t layout = H5Pget_layout(creation);
  if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT) {
    facts.refused = "is put together from other datasets (a virtual layout), which is not read";
    return;
  }
  if (bytes > (compressed ? kLargestExpansion * file_size + (1 << 20) : file_size)) {
    facts.refused = "would be " + std::to_string(bytes) + " bytes in a file of " + std::to_string(file_size);
    return;
  }
  hsize_t user_block = 0;
  H5Pget_userblock(files, &user_block);
  const auto stored = static_cast<int64_t>(H5Dget_storage_size(dataset));
  if (layout != H5D_COMPACT && !compressed && stored < bytes) {
    facts.refused = "was never written to its end";
    return;
  }
  if (layout == H5D_CHUNKED) {
    hsize_t chunk[H5S_MAX_RANK];
    const int dims = H5Pget_chunk(creation, H5S_MAX_RANK, chunk);
    const std::vector<int64_t> sizes(chunk, chunk + std::clamp(dims, 0, int{H5S_MAX_RANK}));
    const int64_t chunk_bytes = size_of_shape(sizes, static_cast<int64_t>(sizeof(double)));
    if (dims != static_cast<int>(facts.shape.size()) || chunk_bytes < 0 ||
        chunk_bytes > kLargestExpansion * file_size + (1 << 20))
      facts.refused = "has chunks larger than its file";
    return;
  }
  const haddr_t place = H5Dget_offset(dataset);
  if (layout == H5D_CONTIGUOUS && place != HADDR_UNDEF && user_block == 0 && stored == bytes)
    facts.place = static_cast<int64_t>(place);
}

Facts facts_of(hid_t file, hid_t dataset, int64_t file_size) {
  Facts facts;
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose), type(H5Dget_type(dataset), H5Tclose);
  if (!space.valid() || !type.valid()) library_failed("its type or shape cannot be read");
  const auto known = known_hdf5_type(type);
  if (!known) {
    facts.refused = "is of a type Carillon does not read";
    return facts;
  }
  facts.type = static_cast<int64_t>(*known);
  check_shape(facts, space);
  if (!facts.refused.empty()) return facts;
  const int64_t bytes = size_of_shape(facts.shape, size_of(*known));
  if (bytes < 0)
    facts.refused = "has a shape beyond 63 bits";
  else if (bytes > 0)
    check_layout(facts, file, dataset, bytes, file_size);
  return facts;
}

// Visits every group once, following hard links only.
class Walk {
 public:
  Walk(hid_t file, int64_t file_size, std::string& out) : file_(file), file_size_(file_size), out_(out) {}

  int64_t count() const { return count_; }

  void group(hid_t id, const std::string& path, int depth) {
    if (depth > kDeepestGroup) damaged("its groups are nested more than " + std::to_string(kDeepestGroup) + " deep");
    std::vector<std::string> names;
    const auto note = [](hid_t, const char* name, const H5L_info_t*, void* list) -> herr_t {
      auto& all = *static_cast<std::vector<std::string>*>(list);
      if (all.size() >= kMostObjects) return -1;
      all.emplace_back(name);
      return 0;
    };
    hsize_t index = 0;
    if (H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, &index, note, &names) < 0)
      library_failed("its list of tensors cannot be read");
    for (const std::string& name : names) member(id, name, path + name, depth);
  }

 private:
  void member(hid_t id, const std::string& name, const std::string& path, int depth) {
    if (++objects_ > kMostObjects) damaged("it holds more than a million objects");
    H5L_info_t link;
    if (H5Lget_info(id, name.c_str(), &link, H5P_DEFAULT) < 0) library_failed("the link " + path + " cannot be read");
    if (link.type != H5L_TYPE_HARD) {
      Facts facts;
      facts.refused = "is a link to another place, which is not followed";
      put(path, facts);
      return;
    }
    const Hdf5Handle object(H5Oopen(id, name.c_str(), H5P_DEFAULT), H5Oclose);
    H5O_info_t info;
    if (!object.valid() || H5Oget_info2(object, &info, H5O_INFO_BASIC) < 0)
      library_failed("tensor " + path + " cannot be opened");
    if (info.type == H5O_TYPE_GROUP) {
      if (!groups_.insert(info.addr).second) damaged("the group " + path + " holds itself");
      group(object, path + "/", depth + 1);
    } else if (info.type == H5O_TYPE_DATASET) {
      try {
        put(path, facts_of(file_, object, file_size_));
      } catch (const Error& error) {
        throw Error(error.code(), "tensor " + path + ": " + error.what());
      }
    }
  }

  void put(const std::string& path, const Facts& facts) {
    put_text(out_, path);
    put_number(out_, facts.type);
    put_number(out_, static_cast<int64_t>(facts.shape.size()));
    for (const int64_t size : facts.shape) put_number(out_, size);
    put_number(out_, facts.place);
    put_text(out_, facts.refused);
    ++count_;
  }

  hid_t file_;
  int64_t file_size_;
  std::string& out_;
  int64_t count_ = 0;
  size_t objects_ = 0;
  std::set<haddr_t> groups_;
};

// Reads a text of the root, or an array of bytes; false for anything else.
bool read_attribute(hid_t attribute, int64_t file_size, std::string& value, std::string& refused) {
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
  if (!type.valid() || !space.valid()) library_failed("its type cannot be read");
  const hssize_t elements = H5Sget_simple_extent_npoints(space);
  const size_t width = H5Tget_size(type);
  const bool bytes = H5Tequal(type, H5T_STD_U8LE) > 0;
  if (!bytes && H5Tget_class(type) != H5T_STRING) return false;
  const H5S_class_t kind = H5Sget_simple_extent_type(space);
  if (!bytes && (elements != 1 || (kind != H5S_SCALAR && kind != H5S_SIMPLE))) {
    refused = "is a list of " + std::to_string(elements) + " texts, not one";
    return true;
  }
  if (elements < 0 || elements > file_size || width == 0 || static_cast<int64_t>(width) > file_size) {
    refused = "is larger than its file";
    return true;
  }
  if (!bytes && H5Tis_variable_str(type) > 0) {
    char* data = nullptr;
    if (H5Aread(attribute, type, &data) < 0) library_failed("its text cannot be read");
    if (data != nullptr) value = data;
    H5free_memory(data);
    return true;
  }
  value.resize(bytes ? static_cast<size_t>(elements) : width);
  if (!value.empty() && H5Aread(attribute, type, value.data()) < 0) library_failed("its text cannot be read");
  if (!bytes) value.resize(std::min(value.find('\0'), value.size()));
  return true;
}

int64_t put_attributes(hid_t file, int64_t file_size, std::string& out) {
  std::vector<std::string> names;
  const auto note = [](hid_t, const char* name, const H5A_info_t*, void* list) -> herr_t {
    auto& all = *static_cast<std::vector<std::string>*>(list);
    if (all.size() >= 1000) return -1;
    all.emplace_back(name);
    return 0;
  };
  hsize_t index = 0;
  if (H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, &index, note, &names) < 0)
    library_failed("its list of attributes cannot be read");
  int64_t count = 0;
  for (const std::string& name : names) {
    const Hdf5Handle attribute(H5Aopen(file, name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute.valid()) library_failed("attribute " + name + " cannot be opened");
    std::string value, refused;
    try {
      if (!read_attribute(attribute, file_size, value, refused)) continue;
    } catch (const Error& error) {
      throw Error(error.code(), "attribute " + name + ": " + error.what());
    }
    put_text(out, name);
    put_text(out, value);
    put_text(out, refused);
    ++count;
  }
  return count;
}

std::string describe(hid_t file, int64_t file_size) {
  std::string attributes, datasets;
  const int64_t attribute_count = put_attributes(file, file_size, attributes);
  Walk walk(file, file_size, datasets);
  const Hdf5Handle root(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose);
  if (!root.valid()) library_failed("its root cannot be opened");
  walk.group(root, "", 0);
  std::string out;
  put_number(out, attribute_count);
  out += attributes;
  put_number(out, walk.count());
  return out + datasets;
}

// Writes all elements in order, some rows at a time.
void unpack(hid_t file, int64_t file_size, const char* name) {
  const Hdf5Handle dataset(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose);
  if (!dataset.valid()) library_failed("it cannot be opened");
  const Facts facts = facts_of(file, dataset, file_size);
  if (!facts.refused.empty()) damaged("it " + facts.refused);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose), space(H5Dget_space(dataset), H5Sclose);
  const int64_t width = size_of(static_cast<StoredType>(facts.type));
  int64_t row = width;
  for (size_t i = 1; i < facts.shape.size(); ++i) row *= facts.shape[i];
  if (row == 0) return;
  std::vector<hsize_t> start(facts.shape.size(), 0), count(facts.shape.begin(), facts.shape.end());
  std::string bytes;
  const bool scalar = H5Sget_simple_extent_type(space) == H5S_SCALAR;
  for (int64_t begin = 0; begin < facts.shape[0];) {
    const int64_t rows = std::min(facts.shape[0] - begin, std::max<int64_t>(1, kBytesAtOnce / row));
    start[0] = static_cast<hsize_t>(begin);
    count[0] = static_cast<hsize_t>(rows);
    bytes.resize(static_cast<size_t>(rows * row));
    const Hdf5Handle memory(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose);
    if (!scalar && H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) < 0)
      library_failed("its rows cannot be selected");
    if (H5Dread(dataset, type, memory, scalar ? H5S_ALL : static_cast<hid_t>(space), H5P_DEFAULT, bytes.data()) < 0)
      library_failed("its elements cannot be read");
    write_out(bytes);
    begin += rows;
  }
}

void limit(int resource, rlim_t value, rlim_t hard) {
  rlimit now{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &now) != 0) return;
  now.rlim_max = std::min(now.rlim_max, hard);
  now.rlim_cur = std::min(now.rlim_max, value);
  setrlimit(static_cast<__rlimit_resource>(resource), &now);
}

// Limits memory beyond what the process has mapped now, so that a sanitizer's reservation does not count.
void limit_memory(int64_t mib) {
  long pages = 0;
  if (FILE* status = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(status, "%ld", &pages) != 1) pages = 0;
    std::fclose(status);
  }
  if (pages == 0) return;
  const rlim_t bytes =
      static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (static_cast<rlim_t>(mib) << 20);
  limit(RLIMIT_AS, bytes, bytes);
}

int serve(int count, char** arguments) {
  try {
    if (count < 3) return static_cast<int>(ExitCode::kUsage);
    struct stat status {};
    if (fstat(kHdf5ChildFile, &status) != 0) return static_cast<int>(ExitCode::kInputOutput);
    const int64_t size = status.st_size;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)close_range(4, ~0u, 0);
    limit_memory(std::atoll(arguments[2]));
    // Reading the metadata of a megabyte takes far less than a second; an endless loop is stopped after a few.
    const auto seconds = static_cast<rlim_t>(2 + std::min<int64_t>(size / (64 << 20), 60));
    limit(RLIMIT_CPU, seconds, seconds + 1);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_NPROC, 0, 0);
    prepare_hdf5();
    disk() = {.descriptor = kHdf5ChildFile, .size = size};
    const hid_t file = H5Fopen("file", H5F_ACC_RDONLY, disk_access(disk()));
    if (file < 0) library_failed("is no HDF5 file or is cut short");
    seal_process();
    if (std::string_view(arguments[1]) == "describe")
      write_out(describe(file, size));
    else if (count == 4)
      unpack(file, size, arguments[3]);
    return 0;
  } catch (const Error& error) {
    try {
      write_out(error.what());
    } catch (const Error&) {
    }
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    return static_cast<int>(ExitCode::kBadInput);
  }
}

// Runs before main(): glibc passes the program's arguments to constructors.
__attribute__((constructor)) void serve_if_started_so(int count, char** arguments) {
  if (count > 0 && arguments[0] != nullptr && std::string_view(arguments[0]) == kHdf5ChildName)
    _exit(serve(count, arguments));
}

}  // namespace

void link_hdf5_child() {}

}  // namespace carillon
