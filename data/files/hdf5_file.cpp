#include "data/files/hdf5_file.h"

#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "data/files/hdf5_driver.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// One call moves at most this much: independent calls above 2 GiB fail in HDF5 1.10.8.
constexpr int64_t kBytesPerCall = int64_t{1} << 30;

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

void prepare_library() {
  static const bool once = [] {
    H5dont_atexit();  // every file is closed by then
    return true;
  }();
  (void)once;
  // Silent in every thread: errors come as ours. The stack is per process in this build.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

// An HDF5 identifier and how it is given back.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle(const Handle&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }
  bool valid() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

Handle make_bfloat16() {
  Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type, 15, 7, 8, 0, 7);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 127);
  return type;
}
Handle make_float16() {
  Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type, 15, 10, 5, 0, 10);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 15);
  return type;
}
Handle type_id(StoredType type) {
  switch (type) {
    case StoredType::kFloat64:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case StoredType::kFloat32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case StoredType::kFloat16:
      return make_float16();
    case StoredType::kBFloat16:
      return make_bfloat16();
    case StoredType::kInt64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case StoredType::kUInt32:
      return {H5Tcopy(H5T_STD_U32LE), H5Tclose};
    case StoredType::kUInt8:
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
  }
  throw InternalError("no such stored type");
}

constexpr StoredType kAllTypes[] = {StoredType::kFloat64,  StoredType::kFloat32, StoredType::kFloat16,
                                    StoredType::kBFloat16, StoredType::kInt64,   StoredType::kUInt32,
                                    StoredType::kUInt8};

std::optional<StoredType> known_type(hid_t type) {
  for (const StoredType candidate : kAllTypes)
    if (H5Tequal(type, type_id(candidate)) > 0) return candidate;
  return std::nullopt;
}

std::vector<hsize_t> as_sizes(const std::vector<int64_t>& values) { return {values.begin(), values.end()}; }

void put_text(hid_t object, const std::string& name, const std::string& text, const std::string& path) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  const char* data = text.c_str();
  if (!attribute.valid() || H5Awrite(attribute, type, &data) < 0)
    fail(ExitCode::kInputOutput, "attribute {} cannot be written, {}, check the disk", name, path);
}

}  // namespace

int64_t size_of(StoredType type) {
  switch (type) {
    case StoredType::kFloat64:
    case StoredType::kInt64:
      return 8;
    case StoredType::kFloat32:
    case StoredType::kUInt32:
      return 4;
    case StoredType::kFloat16:
    case StoredType::kBFloat16:
      return 2;
    case StoredType::kUInt8:
      return 1;
  }
  return 0;
}

std::string name_of(StoredType type) {
  constexpr const char* kNames[] = {"float64", "float32", "float16", "bfloat16", "int64", "uint32", "uint8"};
  return kNames[static_cast<int>(type)];
}

StoredType stored_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return StoredType::kFloat64;
    case DType::kFloat32:
      return StoredType::kFloat32;
    case DType::kBFloat16:
      return StoredType::kBFloat16;
    case DType::kInt64:
      return StoredType::kInt64;
    case DType::kUInt8:
      return StoredType::kUInt8;
  }
  throw InternalError("no such dtype");
}

struct Hdf5File::State {
  std::string path;
  hid_t file = -1;
  Hdf5Disk disk;

  ~State() {
    // In good order also after an error: HDF5 was told of no failed write (hdf5_driver.h).
    if (file >= 0) {
      const std::lock_guard lock(library_mutex());
      H5Fclose(file);
    }
    if (disk.descriptor >= 0) ::close(disk.descriptor);
  }
  // After a write: throws what the disk said meanwhile.
  void check_written(const std::string& what, bool good) const {
    if (disk.error != 0 || !good) fail_to_write(what + " cannot be written", disk.error != 0 ? disk.error : EIO, path);
  }
  // "There is none", unless it was the disk that gave no answer.
  std::nullopt_t none() const {
    if (disk.error != 0) fail_to_read("the file cannot be read");
    return std::nullopt;
  }
  // After a read that failed: the disk did not answer, or the file is damaged.
  [[noreturn]] void fail_to_read(const std::string& what) const {
    if (disk.error != 0)
      fail(ExitCode::kInputOutput, "{} ({}), {}, check the disk and start again", what, std::strerror(disk.error),
           path);
    fail(ExitCode::kBadInput, "{}, {}, restore the file", what, path);
  }
};

Hdf5File::Hdf5File(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File::~Hdf5File() = default;

const std::string& Hdf5File::path() const { return state_->path; }

Hdf5File Hdf5File::open(const std::string& path, Links links) {
  const std::lock_guard lock(library_mutex());
  prepare_library();
  const InputFile file(path, links);
  auto state = std::make_unique<State>();
  state->path = path;
  state->disk.descriptor = fcntl(file.descriptor(), F_DUPFD_CLOEXEC, 0);
  state->disk.size = file.size();
  const Handle access(disk_access(state->disk), H5Pclose);
  state->file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
  if (state->file < 0) state->fail_to_read("is no HDF5 file or is cut short");
  return Hdf5File(std::move(state));
}

Hdf5File Hdf5File::create(const std::string& path) {
  const std::lock_guard lock(library_mutex());
  prepare_library();
  auto state = std::make_unique<State>();
  state->path = path;
  state->disk.descriptor = open_to_write(path, /*create=*/true);
  const Handle access(disk_access(state->disk), H5Pclose);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_alignment(access, 4096, 4096);
  state->file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  state->check_written("the file", state->file >= 0);
  return Hdf5File(std::move(state));
}

void Hdf5File::create_dataset(const Dataset& dataset) {
  const std::lock_guard lock(library_mutex());
  const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  const std::vector<hsize_t> shape = as_sizes(dataset.shape);
  const Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
  const Handle id(
      H5Dcreate2(state_->file, dataset.name.c_str(), type_id(dataset.type), space, links, creation, H5P_DEFAULT),
      H5Dclose);
  state_->check_written("dataset " + dataset.name, id.valid());
  if (dataset.type == StoredType::kBFloat16) put_text(id, "dtype", "bfloat16", state_->path);
}

namespace {

// The pieces of a rectangle along its rows, each within one call's limit; `visit(offset, extent, first element)`. The
// number of pieces follows from the global shape, so that collective calls are as many on every rank.
template <class Visit>
void for_each_piece(const Rectangle& rectangle, int64_t element_bytes, Visit visit) {
  int64_t global = element_bytes;
  for (const int64_t size : rectangle.global_shape) global *= size;
  const int64_t pieces = std::max<int64_t>(1, (global + kBytesPerCall - 1) / kBytesPerCall);
  const int64_t row = rectangle.extent[0] == 0 ? 0 : rectangle.count() / rectangle.extent[0];
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const Range rows = share_of(rectangle.extent[0], pieces, piece);
    std::vector<int64_t> offset = rectangle.offset, extent = rectangle.extent;
    offset[0] += rows.begin;
    extent[0] = rows.size();
    visit(offset, extent, rows.begin * row);
  }
}

void select(hid_t space, const std::vector<int64_t>& offset, const std::vector<int64_t>& extent) {
  const std::vector<hsize_t> start = as_sizes(offset), count = as_sizes(extent);
  if (std::find(extent.begin(), extent.end(), 0) != extent.end())
    H5Sselect_none(space);
  else
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
}

Handle memory_space(const std::vector<int64_t>& extent) {
  const std::vector<hsize_t> count = as_sizes(extent);
  Handle space(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose);
  if (std::find(extent.begin(), extent.end(), 0) != extent.end()) H5Sselect_none(space);
  return space;
}

}  // namespace

void Hdf5File::write(const std::string& name, const Rectangle& rectangle, const void* data) {
  const std::lock_guard lock(library_mutex());
  const Handle id(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  const Handle type(H5Dget_type(id), H5Tclose);
  const Handle transfer(H5Pcreate(H5P_DATASET_XFER), H5Pclose);
  const int64_t width = static_cast<int64_t>(H5Tget_size(type));
  bool good = id.valid();
  for_each_piece(rectangle, width, [&](const auto& offset, const auto& extent, int64_t first) {
    if (!good) return;
    const Handle space(H5Dget_space(id), H5Sclose);
    select(space, offset, extent);
    const Handle memory = memory_space(extent);
    good = H5Dwrite(id, type, memory, space, transfer, static_cast<const char*>(data) + first * width) >= 0;
  });
  state_->check_written("tensor " + name, good);
}

void Hdf5File::read(const std::string& name, const Rectangle& rectangle, void* data) const {
  const std::lock_guard lock(library_mutex());
  const Handle id(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!id.valid()) state_->fail_to_read("tensor " + name + " cannot be opened");
  const Handle type(H5Dget_type(id), H5Tclose);
  const int64_t width = static_cast<int64_t>(H5Tget_size(type));
  bool good = true;
  if (!rectangle.empty())
    for_each_piece(rectangle, width, [&](const auto& offset, const auto& extent, int64_t first) {
      const Handle space(H5Dget_space(id), H5Sclose);
      select(space, offset, extent);
      const Handle memory = memory_space(extent);
      good = good && H5Dread(id, type, memory, space, H5P_DEFAULT, static_cast<char*>(data) + first * width) >= 0;
    });
  if (!good) state_->fail_to_read("tensor " + name + " cannot be read");
}

std::optional<Hdf5File::Dataset> Hdf5File::find(const std::string& name) const {
  const std::lock_guard lock(library_mutex());
  // Every group on the way must exist, or HDF5 complains instead of answering.
  for (size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1))
    if (H5Lexists(state_->file, name.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return state_->none();
  if (H5Lexists(state_->file, name.c_str(), H5P_DEFAULT) <= 0) return state_->none();
  const Handle id(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!id.valid()) return state_->none();
  const Handle space(H5Dget_space(id), H5Sclose), type(H5Dget_type(id), H5Tclose);
  const auto known = known_type(type);
  if (!known)
    fail(ExitCode::kBadInput, "tensor {} is of a type Carillon does not read, {}, convert it to a floating type", name,
         state_->path);
  std::vector<hsize_t> sizes(static_cast<size_t>(std::max(H5Sget_simple_extent_ndims(space), 0)));
  H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  return Dataset{name, *known, {sizes.begin(), sizes.end()}};
}

std::optional<int64_t> Hdf5File::place_of(const std::string& name) const {
  const std::lock_guard lock(library_mutex());
  const Handle id(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!id.valid()) return state_->none();
  const Handle creation(H5Dget_create_plist(id), H5Pclose), space(H5Dget_space(id), H5Sclose),
      type(H5Dget_type(id), H5Tclose), file_creation(H5Fget_create_plist(state_->file), H5Pclose);
  hsize_t user_block = 0;
  const haddr_t place = H5Dget_offset(id);
  const hssize_t elements = H5Sget_simple_extent_npoints(space);
  if (H5Pget_userblock(file_creation, &user_block) < 0 || user_block != 0 || place == HADDR_UNDEF ||
      H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_external_count(creation) != 0 || elements < 0 ||
      H5Dget_storage_size(id) != static_cast<hsize_t>(elements) * H5Tget_size(type))
    return std::nullopt;
  return static_cast<int64_t>(place);
}

std::vector<Hdf5File::Dataset> Hdf5File::datasets() const {
  const std::lock_guard lock(library_mutex());
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5O_info_t* info, void* list) -> herr_t {
    if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(list)->emplace_back(name);
    return 0;
  };
  if (H5Ovisit2(state_->file, H5_INDEX_NAME, H5_ITER_INC, visit, &names, H5O_INFO_BASIC) < 0)
    state_->fail_to_read("its list of tensors cannot be read");
  std::vector<Dataset> result;
  for (const std::string& name : names)
    if (auto dataset = find(name)) result.push_back(std::move(*dataset));
  return result;
}

void Hdf5File::set_attribute(const std::string& name, const std::string& text) {
  const std::lock_guard lock(library_mutex());
  put_text(state_->file, name, text, state_->path);
}

void Hdf5File::set_short_attribute(const std::string& name, const std::string& text) {
  const std::lock_guard lock(library_mutex());
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, text.size() + 1);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Handle attribute(H5Acreate2(state_->file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  state_->check_written("attribute " + name, attribute.valid() && H5Awrite(attribute, type, text.c_str()) >= 0);
}

void Hdf5File::set_dataset_attribute(const std::string& dataset, const std::string& name, const std::string& text) {
  const std::lock_guard lock(library_mutex());
  const Handle id(H5Dopen2(state_->file, dataset.c_str(), H5P_DEFAULT), H5Dclose);
  put_text(id, name, text, state_->path);
}

std::optional<std::string> Hdf5File::attribute(const std::string& name) const {
  const std::lock_guard lock(library_mutex());
  if (H5Aexists(state_->file, name.c_str()) <= 0) return state_->none();
  const Handle attribute(H5Aopen(state_->file, name.c_str(), H5P_DEFAULT), H5Aclose);
  const Handle type(H5Aget_type(attribute), H5Tclose);
  if (!attribute.valid() || H5Tget_class(type) != H5T_STRING) return state_->none();
  if (H5Tis_variable_str(type) > 0) {
    char* data = nullptr;
    const Handle memory(H5Tcopy(type), H5Tclose);
    if (H5Aread(attribute, memory, &data) < 0 || data == nullptr)
      fail(ExitCode::kBadInput, "attribute {} cannot be read, {}, restore the file", name, state_->path);
    const std::string text(data);
    H5free_memory(data);
    return text;
  }
  std::string text(H5Tget_size(type), '\0');
  if (H5Aread(attribute, type, text.data()) < 0)
    fail(ExitCode::kBadInput, "attribute {} cannot be read, {}, restore the file", name, state_->path);
  return text.substr(0, text.find('\0'));
}

void Hdf5File::close() {
  const std::lock_guard lock(library_mutex());
  const bool flushed = H5Fflush(state_->file, H5F_SCOPE_GLOBAL) >= 0;
  const bool closed = H5Fclose(state_->file) >= 0;
  state_->file = -1;
  state_->check_written("the end of the file", flushed && closed);
}

}  // namespace carillon
