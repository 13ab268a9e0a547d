#include "data/files/hdf5_library.h"

#include <cstdlib>

#include "runtime/error.h"

namespace carillon {
namespace {

// A 16-bit float: sign, `exponent` bits and `mantissa` bits.
Hdf5Handle make_float(int exponent, int mantissa, size_t bias) {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type, 15, static_cast<size_t>(mantissa), static_cast<size_t>(exponent), 0,
                static_cast<size_t>(mantissa));
  H5Tset_size(type, 2);
  H5Tset_ebias(type, bias);
  return type;
}

constexpr StoredType kAllTypes[] = {StoredType::kFloat64,  StoredType::kFloat32, StoredType::kFloat16,
                                    StoredType::kBFloat16, StoredType::kInt64,   StoredType::kUInt32,
                                    StoredType::kUInt8};

}  // namespace

void prepare_hdf5() {
  static const bool once = [] {
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);  // committed files are read-only; locks fail on some network mounts
    H5dont_atexit();                              // after an error no collective call may happen any more
    H5PLset_loading_state(0);                     // a filter number in a file must not load a library
    return true;
  }();
  (void)once;
  // No messages in any thread: errors are reported as ours. In this build the error stack is per process.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Handle hdf5_type(StoredType type) {
  switch (type) {
    case StoredType::kFloat64:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case StoredType::kFloat32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case StoredType::kFloat16:
      return make_float(5, 10, 15);
    case StoredType::kBFloat16:
      return make_float(8, 7, 127);
    case StoredType::kInt64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case StoredType::kUInt32:
      return {H5Tcopy(H5T_STD_U32LE), H5Tclose};
    case StoredType::kUInt8:
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
  }
  throw InternalError("no such stored type");
}

std::optional<StoredType> known_hdf5_type(hid_t type) {
  for (const StoredType candidate : kAllTypes)
    if (H5Tequal(type, hdf5_type(candidate)) > 0) return candidate;
  return std::nullopt;
}

}  // namespace carillon
