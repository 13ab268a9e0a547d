#include "parallel/optimizer/state_stream.h"

#include "parallel/injected_fault.h"

namespace carillon {

StateStream::StateStream(Backend& backend, DType type, int64_t elements, Arena& device)
    : backend_(backend), elements_(elements) {
  for (auto& place : places_)
    for (Tensor& tensor : place) tensor = device.allocate("optimizer.passing", type, {elements});
}

void StateStream::wait(Copies& copies) {
  for (const auto& copy : copies)
    if (!injected(InjectedFault::kCopyNotAwaited)) copy->wait();
  copies.clear();
}

StateStream::Chunk StateStream::place_of(size_t index, const Chunk& host) const {
  CHECK(host.size() <= kTensors, "a chunk has a master and two moments", host.size());
  Chunk device;
  for (size_t i = 0; i < host.size(); ++i) device.push_back(places_[index % 2][i].rows(0, host[i].size(0)));
  return device;
}

void StateStream::run(const std::vector<Chunk>& chunks, bool bring,
                      const std::function<void(size_t index, const Chunk& device)>& work) {
  std::array<Copies, 2> in, out;
  const auto start_in = [&](size_t index) {
    wait(out[index % 2]);
    const Chunk device = place_of(index, chunks[index]);
    for (size_t i = 0; bring && i < device.size(); ++i)
      if (!device[i].empty()) in[index % 2].push_back(backend_.start_upload(device[i], chunks[index][i]));
  };
  if (!chunks.empty()) start_in(0);
  for (size_t index = 0; index < chunks.size(); ++index) {
    wait(in[index % 2]);
    const Chunk device = place_of(index, chunks[index]);
    work(index, device);
    for (size_t i = 0; i < device.size(); ++i)
      if (!device[i].empty()) out[index % 2].push_back(backend_.start_download(chunks[index][i], device[i]));
    if (index + 1 < chunks.size()) start_in(index + 1);
  }
  for (Copies& copies : out) wait(copies);
  backend_.synchronize();
}

}  // namespace carillon
