#include "data/checkpoint/stored_values.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/backend.h"

namespace carillon {
namespace {

template <class From, class Read>
void convert(Tensor to, const void* from, Read read) {
  dispatch_floating(to.dtype(), [&](auto zero) {
    using To = decltype(zero);
    To* target = to.data<To>();
    const char* source = static_cast<const char*>(from);
    for (int64_t i = 0; i < to.count(); ++i) {
      From value;
      std::memcpy(&value, source + i * static_cast<int64_t>(sizeof(From)), sizeof(From));
      target[i] = To(read(value));
    }
  });
}

}  // namespace

float float16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  if (exponent == 0) return std::copysign(std::ldexp(static_cast<float>(mantissa), -24), sign ? -1.0f : 1.0f);
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | mantissa << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t float16_of(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::abs(value);
  if (std::isnan(value)) return sign | 0x7E00;
  if (size >= 65520) return sign | 0x7C00;
  // A mantissa that is rounded up to the next power of two carries into the exponent, as it should.
  if (size < 0x1p-14) return sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24));
  int exponent;
  const double mantissa = std::nearbyint(std::frexp(size, &exponent) * 2048);  // in [1024, 2048]
  return sign | static_cast<uint16_t>(((exponent + 14) << 10) + static_cast<int>(mantissa) - 1024);
}

void convert_stored(Tensor to, const void* from, StoredType type) {
  if (to.empty()) return;
  CHECK(to.packed(), "conversions fill packed tensors", describe(to));
  switch (type) {
    case StoredType::kFloat64:
      return convert<double>(to, from, [](double value) { return value; });
    case StoredType::kFloat32:
      return convert<float>(to, from, [](float value) { return value; });
    case StoredType::kFloat16:
      return convert<uint16_t>(to, from, [](uint16_t bits) { return float16_to_float(bits); });
    case StoredType::kBFloat16:
      return convert<uint16_t>(to, from,
                               [](uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); });
    default:
      throw InternalError("integers are no weights: " + name_of(type));
  }
}

void store_values(const std::vector<double>& values, StoredType type, std::vector<char>& bytes) {
  bytes.resize(values.size() * static_cast<size_t>(size_of(type)));
  const auto each = [&]<class Stored>(Stored, auto convert) {
    for (size_t i = 0; i < values.size(); ++i) {
      const Stored stored = convert(values[i]);
      std::memcpy(bytes.data() + i * sizeof(Stored), &stored, sizeof(Stored));
    }
  };
  switch (type) {
    case StoredType::kFloat64:
      return each(double{}, [](double value) { return value; });
    case StoredType::kFloat32:
      return each(float{}, [](double value) { return static_cast<float>(value); });
    case StoredType::kFloat16:
      return each(uint16_t{}, [](double value) { return float16_of(value); });
    case StoredType::kBFloat16:
      return each(bfloat16{}, [](double value) { return bfloat16(static_cast<float>(value)); });
    default:
      throw InternalError("integers are no weights: " + name_of(type));
  }
}

void fill_shard(const NamedShard& shard, const void* from, StoredType type) {
  if (shard.device == nullptr) return convert_stored(shard.data, from, type);
  if (shard.data.empty()) return;
  std::vector<char> staged(shard.data.bytes());
  const Tensor host(staged.data(), shard.data.dtype(), shard.data.shape());
  convert_stored(host, from, type);
  shard.device->upload(shard.data, host);
}

}  // namespace carillon
