// State that lives in host memory and passes through the device chunk by chunk: master weights and moments of an
// optimizer under train.offload: optimizer.
//
// Why not run AdamW on the host: a parameter's state is 12 bytes each way, and both directions run at once, so an
// 8-rank node moves the 96 GB of an 8B model in about 0.2 s over its eight links. The host would read and write 28
// bytes per parameter through one memory system that its ranks share, and the gradients would have to travel anyway.
// Besides, it is the same kernel on the same numbers: the weights have the same bits with and without offload.
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

  // Allocates two places of kTensors · `elements` of `type` from `device`. Touches no memory.
  StateStream(Backend& backend, DType type, int64_t elements, Arena& device);

  int64_t elements() const { return elements_; }  // of the longest chunk

  // Calls work(i, the chunk's tensors on the device) for each chunk in order and copies the tensors back to the host.
  // Without `bring` nothing is copied to the device: `work` fills the tensors. The host memory is valid when this
  // returns.
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
