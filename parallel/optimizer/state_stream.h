// State that lives in host memory and passes through the device chunk by chunk: master weights and moments of an
// optimizer under train.offload: optimizer.
//
// Why through the device and not AdamW on the host: a parameter's state is 12 bytes each way, both directions at once,
// so an 8-rank node moves 8B's 96 GB in about 0.2 s over its eight links; the host would read and write 28 bytes a
// parameter through one memory system that its ranks share, and gradients would have to travel anyway. And it is the
// same kernel on the same numbers: weights are the same bits with and without.
//
//   chunk   i - 1        i            i + 1
//   place   p            1 - p        p
//           going out    worked on    coming in, once i - 1 has gone
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/backend.h"

namespace carillon {

class StateStream {
 public:
  using Chunk = std::vector<Tensor>;  // up to kTensors 1-D tensors in host memory, all of one length (0 allowed)
  static constexpr size_t kTensors = 3;

  // Allocates two places of kTensors · `elements` of type A from `device`. Touches no memory.
  StateStream(Backend& backend, DType type, int64_t elements, Arena& device);

  int64_t elements() const { return elements_; }  // of the longest chunk

  // work(i, the chunk's tensors on the device) for each chunk in order; then they go back. Without `bring` nothing
  // comes in and work fills them. At the end the host memory may be read.
  void run(const std::vector<Chunk>& chunks, bool bring,
           const std::function<void(size_t index, const Chunk& device)>& work);

 private:
  using Copies = std::vector<std::unique_ptr<Backend::Copy>>;
  static void wait(Copies& copies);
  Chunk place_of(size_t index, const Chunk& host) const;

  Backend& backend_;
  int64_t elements_;
  std::array<std::array<Tensor, kTensors>, 2> places_;
};

}  // namespace carillon
