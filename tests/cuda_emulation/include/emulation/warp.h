// Device functions: the position of a thread, barriers and warp-wide operations. Each lane deposits its operand of a
// warp-wide operation, and the last lane to arrive performs it for all (fibre.cpp). All lanes of the warp must reach
// it: only full masks are supported.
#pragma once

#include <cstring>
#include <source_location>

#include "emulation/types.h"

extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

namespace carillon_emulation {

using Place = std::source_location;

// operands[l] is the operand of lane l; nullptr if the block has no such thread.
using Perform = void (*)(void* const* operands);

// Waits for all lanes of the warp and performs the operation; `name` is used in messages.
void warp_operation(const char* name, Perform perform, void* operand, const Place& place);
void block_barrier(const Place& place);
// Ends this kernel with a message that names the thread; from then on the host gets cudaErrorLaunchFailure.
[[noreturn]] void device_failure(const char* format, ...) __attribute__((format(printf, 1, 2)));

template <class T>
struct ShuffleOperand {
  T value, result;
  int source;  // the lane to read
};

template <class T>
void perform_shuffle(void* const* operands) {
  for (int lane = 0; lane < 32; ++lane) {
    auto* mine = static_cast<ShuffleOperand<T>*>(operands[lane]);
    if (!mine) continue;
    auto* other = static_cast<ShuffleOperand<T>*>(operands[mine->source]);
    // A thread that does not exist gives an undefined value: NaN here.
    if (other)
      mine->result = other->value;
    else
      std::memset(static_cast<void*>(&mine->result), 0xFF, sizeof(T));
  }
}

void require_full_mask(unsigned mask);
int lane_index();

template <class T>
T shuffle(const char* name, unsigned mask, T value, int source, const Place& place) {
  require_full_mask(mask);
  ShuffleOperand<T> operand{value, value, source};
  warp_operation(name, perform_shuffle<T>, &operand, place);
  return operand.result;
}

}  // namespace carillon_emulation

inline void __syncthreads(carillon_emulation::Place place = carillon_emulation::Place::current()) {
  carillon_emulation::block_barrier(place);
}

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       carillon_emulation::Place place = carillon_emulation::Place::current()) {
  carillon_emulation::require_full_mask(mask);
  int nothing = 0;
  carillon_emulation::warp_operation(
      "__syncwarp", [](void* const*) {}, &nothing, place);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  carillon_emulation::Place place = carillon_emulation::Place::current()) {
  const int lane = carillon_emulation::lane_index(), other = lane ^ lane_mask;
  // Lanes of a group may read lower groups, not higher ones (Programming Guide, "Warp Shuffle Functions").
  const bool inside = other < (lane / width + 1) * width;
  return carillon_emulation::shuffle("__shfl_xor_sync", mask, value, inside ? other : lane, place);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   carillon_emulation::Place place = carillon_emulation::Place::current()) {
  const int lane = carillon_emulation::lane_index(), other = lane + static_cast<int>(delta);
  const bool inside = other < (lane / width + 1) * width;
  return carillon_emulation::shuffle("__shfl_down_sync", mask, value, inside ? other : lane, place);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 carillon_emulation::Place place = carillon_emulation::Place::current()) {
  const int lane = carillon_emulation::lane_index(), other = lane - static_cast<int>(delta);
  const bool inside = other >= lane / width * width;
  return carillon_emulation::shuffle("__shfl_up_sync", mask, value, inside ? other : lane, place);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              carillon_emulation::Place place = carillon_emulation::Place::current()) {
  const int lane = carillon_emulation::lane_index();
  return carillon_emulation::shuffle("__shfl_sync", mask, value, lane / width * width + source % width, place);
}

namespace carillon_emulation {
struct VoteOperand {
  int predicate;
  unsigned ballot;
};
unsigned vote(const char* name, unsigned mask, int predicate, const Place& place);
}  // namespace carillon_emulation

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              carillon_emulation::Place place = carillon_emulation::Place::current()) {
  return carillon_emulation::vote("__ballot_sync", mask, predicate, place);
}
inline int __any_sync(unsigned mask, int predicate,
                      carillon_emulation::Place place = carillon_emulation::Place::current()) {
  return carillon_emulation::vote("__any_sync", mask, predicate, place) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      carillon_emulation::Place place = carillon_emulation::Place::current()) {
  return carillon_emulation::vote("__all_sync", mask, !predicate, place) == 0;
}
