// Kept activations in host memory (train.offload: checkpoints). The device holds two layers' worth: layer i uses place
// i mod 2. While one layer computes, the tensors kept by the previous one are copied out; in the backward pass, those
// that the next one needs are copied in. (Layer inputs in host memory: 2104.07857, section 5.1.2. The copies are hidden
// if 2·C bytes per token over the link take less time than the layer's FLOP, parallelism reference §2c.)
//   forward   layer i computes | save(i): its input, attention, log-sum-exp (and input of a norm after the MLP) go out
//             make_room(i + 1): the copy of layer i - 1 is over, its place takes layer i + 1's input
//   backward  need(i): the copy in is over | layer i computes | fetch(i - 2): into the place layer i leaves
//
// The last two layers are still in their places when the backward pass begins, so they are never copied, and host
// memory holds L - 2 layers. Copies are exact, so gradients have the same bits with and without.
#pragma once

#include <memory>
#include <vector>

#include "model/activations.h"
#include "runtime/backend.h"

namespace carillon {

class ActivationOffload {
 public:
  // `layers` as allocate_kept_activations returned them with `offloaded`; host copies are allocated from `host`.
  ActivationOffload(Backend& backend, const std::vector<LayerActivations>& layers, Recompute recompute, Arena& host);

  void save(int64_t layer);
  void make_room(int64_t layer);
  void need(int64_t layer);
  void fetch(int64_t layer);  // does nothing below 0

 private:
  struct Place {
    std::vector<Tensor> device, host;  // input, attention, lse, mlp_output; host empty for the last two layers
    std::vector<std::unique_ptr<Backend::Copy>> in_flight;
    void wait();
  };
  Place* travelling(int64_t layer);  // null: this layer stays on the device, or does not exist

  Backend& backend_;
  std::vector<Place> layers_;
};

}  // namespace carillon
