#include "model/activation_offload.h"

#include "parallel/injected_fault.h"

namespace carillon {

ActivationOffload::ActivationOffload(Backend& backend, const std::vector<LayerActivations>& layers, Recompute recompute,
                                     Arena& host)
    : backend_(backend), layers_(layers.size()) {
  CHECK(recompute != Recompute::kNone, "what is kept whole stays on the device");
  for (size_t index = 0; index < layers.size(); ++index) {
    Place& place = layers_[index];
    const bool stays = index + 2 >= layers.size();
    const auto keep = [&](const char* name, Tensor device) {
      place.device.push_back(device);
      if (!stays)
        place.host.push_back(host.allocate(std::string("checkpoints.") + name, device.dtype(), device.shape()));
    };
    keep("input", layers[index].input);
    if (recompute == Recompute::kFull) continue;
    keep("attention", layers[index].attention);
    keep("lse", layers[index].lse);
    if (!layers[index].mlp_output) continue;
    keep("mlp_output", layers[index].mlp_output);
    keep("mlp_output_rstd", layers[index].mlp_output_rstd);
  }
}

ActivationOffload::Place* ActivationOffload::travelling(int64_t layer) {
  if (layer < 0 || layer >= static_cast<int64_t>(layers_.size())) return nullptr;
  Place& place = layers_[static_cast<size_t>(layer)];
  return place.host.empty() ? nullptr : &place;
}

void ActivationOffload::Place::wait() {
  for (const auto& copy : in_flight)
    if (!injected(InjectedFault::kCopyNotAwaited)) copy->wait();
  in_flight.clear();
}

void ActivationOffload::save(int64_t layer) {
  Place* place = travelling(layer);
  if (place == nullptr) return;
  for (size_t i = 0; i < place->device.size(); ++i)
    place->in_flight.push_back(backend_.start_download(place->host[i], place->device[i]));
}

void ActivationOffload::make_room(int64_t layer) {
  if (Place* before = travelling(layer - 2)) before->wait();
}

void ActivationOffload::need(int64_t layer) {
  if (Place* place = travelling(layer)) place->wait();
}

void ActivationOffload::fetch(int64_t layer) {
  Place* place = travelling(layer);
  if (place == nullptr) return;
  for (size_t i = 0; i < place->device.size(); ++i)
    place->in_flight.push_back(backend_.start_upload(place->device[i], place->host[i]));
}

}  // namespace carillon
