#include "parallel/context/sequence_layout.h"

#include <algorithm>
#include <cstring>

#include "runtime/error.h"

namespace carillon {
namespace {

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <class T>
T padding_as(double padding) {
  return static_cast<T>(padding);
}
template <>
bfloat16 padding_as<bfloat16>(double padding) {
  return bfloat16(padding);
}

template <class T>
void pick(const SequenceLayout& layout, Tensor local, Tensor whole, int cp_rank, double padding) {
  const int64_t half = layout.half();
  for (int64_t row = 0; row < local.size(0); ++row) {
    const T* from = whole.data<T>() + row * whole.stride(0);
    T* to = local.data<T>() + row * local.stride(0);
    // Each half is one contiguous range of the sequence; padding may cut off its end.
    for (const int64_t begin : {int64_t{0}, half}) {
      const int64_t index = layout.index_of(cp_rank, begin);
      const int64_t real = std::clamp<int64_t>(layout.length() - index, 0, half);
      if (real > 0) std::memcpy(to + begin, from + index, static_cast<size_t>(real) * sizeof(T));
      std::fill(to + begin + real, to + begin + half, padding_as<T>(padding));
    }
  }
}

}  // namespace

SequenceLayout::SequenceLayout(LayoutKind kind, int64_t length, int cp, int tp)
    : kind_(kind), length_(length), padded_(round_up(length, int64_t{2} * cp * tp)), cp_(cp) {
  CHECK(cp > 0 && tp > 0, "a grid has at least one rank on each axis", cp, tp);
  if (length < int64_t{2} * cp)
    fail(ExitCode::kUsage,
         "a sequence of {} tokens cannot be cut into {} pieces, in data.sequence_length with parallel.context = {}, "
         "use at least {} tokens or fewer context ranks",
         length, 2 * cp, cp, 2 * cp);
}

int64_t SequenceLayout::index_of(int cp_rank, int64_t position) const {
  CHECK(0 <= cp_rank && cp_rank < cp_ && 0 <= position && position < local(), "no such place", cp_rank, position);
  if (kind_ == LayoutKind::kContiguous) return cp_rank * local() + position;
  const int64_t chunk = half();
  return position < chunk ? cp_rank * chunk + position : (2 * cp_ - 1 - cp_rank) * chunk + (position - chunk);
}

SequenceLayout::Place SequenceLayout::place_of(int64_t sequence_index) const {
  CHECK(0 <= sequence_index && sequence_index < padded_, "no such token", sequence_index, padded_);
  if (kind_ == LayoutKind::kContiguous) return {static_cast<int>(sequence_index / local()), sequence_index % local()};
  const int64_t chunk = sequence_index / half();
  const int64_t inside = sequence_index % half();
  if (chunk < cp_) return {static_cast<int>(chunk), inside};
  return {static_cast<int>(2 * cp_ - 1 - chunk), half() + inside};
}

std::vector<int64_t> SequenceLayout::indices(int cp_rank) const {
  std::vector<int64_t> result(static_cast<size_t>(local()));
  for (int64_t position = 0; position < local(); ++position) result[position] = index_of(cp_rank, position);
  return result;
}

void SequenceLayout::shard(Tensor local_part, Tensor whole, int cp_rank, double padding) const {
  CHECK(local_part.rank() == 2 && local_part.size(1) == local(), "local part is [B, Tl]", describe(local_part),
        local());
  CHECK(whole.rank() == 2 && whole.size(1) == length_, "whole is [B, length]", describe(whole), length_);
  CHECK(whole.size(0) == local_part.size(0) && whole.dtype() == local_part.dtype(), "parts differ", describe(whole),
        describe(local_part));
  if (whole.dtype() == DType::kInt64)
    pick<int64_t>(*this, local_part, whole, cp_rank, padding);
  else
    dispatch_floating(whole.dtype(),
                      [&](auto type) { pick<decltype(type)>(*this, local_part, whole, cp_rank, padding); });
}

}  // namespace carillon
