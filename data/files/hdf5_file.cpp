// The writing side of Hdf5File, through the HDF5 library; it only handles files that we write. Reading: hdf5_read.cpp.
#include "data/files/hdf5_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "data/files/hdf5_library.h"
#include "data/files/hdf5_state.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// The most bytes that one call moves: independent calls above 2 GiB fail in HDF5 1.10.8.
constexpr int64_t kBytesPerCall = int64_t{1} << 30;

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

std::vector<hsize_t> as_sizes(const std::vector<int64_t>& values) { return {values.begin(), values.end()}; }

void put_text(hid_t object, const std::string& name, const std::string& text, const std::string& path) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
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

Hdf5File::State::~State() {
  // Safe after an error too, because HDF5 does not know of failed writes (hdf5_driver.h).
  if (file >= 0) {
    const std::lock_guard lock(library_mutex());
    H5Fclose(file);
  }
  if (disk.descriptor >= 0) ::close(disk.descriptor);
  for (const auto& [name, number] : unpacked) ::close(number);
}

void Hdf5File::State::check_written(const std::string& what, bool good) const {
  if (disk.error != 0 || !good) fail_to_write(what + " cannot be written", disk.error != 0 ? disk.error : EIO, path);
}

Hdf5File::Hdf5File(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File::~Hdf5File() = default;

const std::string& Hdf5File::path() const { return state_->path; }

Hdf5File Hdf5File::create(const std::string& path) {
  const std::lock_guard lock(library_mutex());
  prepare_hdf5();
  auto state = std::make_unique<State>();
  state->path = path;
  state->disk.descriptor = open_to_write(path, /*create=*/true);
  const Hdf5Handle access(disk_access(state->disk), H5Pclose);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_alignment(access, 4096, 4096);
  state->file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  state->check_written("the file", state->file >= 0);
  return Hdf5File(std::move(state));
}

void Hdf5File::create_dataset(const Dataset& dataset) {
  const std::lock_guard lock(library_mutex());
  const Hdf5Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  const std::vector<hsize_t> shape = as_sizes(dataset.shape);
  const Hdf5Handle space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose);
  const Hdf5Handle id(
      H5Dcreate2(state_->file, dataset.name.c_str(), hdf5_type(dataset.type), space, links, creation, H5P_DEFAULT),
      H5Dclose);
  state_->check_written("dataset " + dataset.name, id.valid());
  if (dataset.type == StoredType::kBFloat16) put_text(id, "dtype", "bfloat16", state_->path);
}

namespace {

// Splits a rectangle along its rows into pieces within the limit of one call; calls visit(offset, extent, first
// element).
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

Hdf5Handle memory_space(const std::vector<int64_t>& extent) {
  const std::vector<hsize_t> count = as_sizes(extent);
  Hdf5Handle space(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose);
  if (std::find(extent.begin(), extent.end(), 0) != extent.end()) H5Sselect_none(space);
  return space;
}

}  // namespace

void Hdf5File::write(const std::string& name, const Rectangle& rectangle, const void* data) {
  const std::lock_guard lock(library_mutex());
  const Hdf5Handle id(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  const Hdf5Handle type(H5Dget_type(id), H5Tclose);
  const Hdf5Handle transfer(H5Pcreate(H5P_DATASET_XFER), H5Pclose);
  const int64_t width = static_cast<int64_t>(H5Tget_size(type));
  bool good = id.valid();
  for_each_piece(rectangle, width, [&](const auto& offset, const auto& extent, int64_t first) {
    if (!good) return;
    const Hdf5Handle space(H5Dget_space(id), H5Sclose);
    select(space, offset, extent);
    const Hdf5Handle memory = memory_space(extent);
    good = H5Dwrite(id, type, memory, space, transfer, static_cast<const char*>(data) + first * width) >= 0;
  });
  state_->check_written("tensor " + name, good);
}

std::optional<int64_t> Hdf5File::place_of(const std::string& name) const {
  if (state_->file < 0) {
    const auto found = state_->description.datasets.find(name);
    if (found == state_->description.datasets.end() || found->second.place < 0) return std::nullopt;
    return found->second.place;
  }
  const std::lock_guard lock(library_mutex());
  const Hdf5Handle id(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!id.valid()) return std::nullopt;
  const Hdf5Handle creation(H5Dget_create_plist(id), H5Pclose), space(H5Dget_space(id), H5Sclose),
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

void Hdf5File::set_attribute(const std::string& name, const std::string& text) {
  const std::lock_guard lock(library_mutex());
  put_text(state_->file, name, text, state_->path);
}

void Hdf5File::set_short_attribute(const std::string& name, const std::string& text) {
  const std::lock_guard lock(library_mutex());
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, text.size() + 1);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(H5Acreate2(state_->file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  state_->check_written("attribute " + name, attribute.valid() && H5Awrite(attribute, type, text.c_str()) >= 0);
}

void Hdf5File::set_bytes_attribute(const std::string& name, std::string_view bytes) {
  const std::lock_guard lock(library_mutex());
  const hsize_t count = bytes.size();
  const Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  const Hdf5Handle attribute(H5Acreate2(state_->file, name.c_str(), H5T_STD_U8LE, space, H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose);
  state_->check_written("attribute " + name, attribute.valid() && H5Awrite(attribute, H5T_STD_U8LE, bytes.data()) >= 0);
}

void Hdf5File::set_dataset_attribute(const std::string& dataset, const std::string& name, const std::string& text) {
  const std::lock_guard lock(library_mutex());
  const Hdf5Handle id(H5Dopen2(state_->file, dataset.c_str(), H5P_DEFAULT), H5Dclose);
  put_text(id, name, text, state_->path);
}

void Hdf5File::close() {
  const std::lock_guard lock(library_mutex());
  const bool flushed = H5Fflush(state_->file, H5F_SCOPE_GLOBAL) >= 0;
  const bool closed = H5Fclose(state_->file) >= 0;
  state_->file = -1;
  state_->check_written("the end of the file", flushed && closed);
}

}  // namespace carillon
