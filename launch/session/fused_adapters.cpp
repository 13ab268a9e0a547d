#include "launch/session/fused_adapters.h"

#include <algorithm>
#include <cmath>

namespace carillon {

std::vector<FusedAdapter> possible_fused_adapters(const ModelConfig& config) {
  std::vector<FusedAdapter> fused;
  for (const FusedTensor& tensor : fused_tensors(config)) {
    const std::string module = module_of_weight(tensor.name);
    FusedAdapter whole{adapter_a_name(module), adapter_b_name(module), {}};
    for (const FusedTensor::Part& part : tensor.parts) {
      const std::string name = module_of_weight(part.name);
      whole.parts.push_back({adapter_a_name(name), adapter_b_name(name), part.rows});
    }
    fused.push_back(std::move(whole));
  }
  return fused;
}

std::pair<std::vector<FusedAdapter>, AdapterConfig> fuse_adapters(const ModelConfig& config) {
  AdapterConfig adapter = config.adapter;
  std::vector<FusedAdapter> fused;
  for (const FusedTensor& tensor : fused_tensors(config)) {
    const std::string module = module_of_weight(tensor.name);
    FusedAdapter whole{adapter_a_name(module), adapter_b_name(module), {}};
    int64_t rank = 0;
    double scale = 0;
    for (const FusedTensor::Part& part : tensor.parts)
      if (const auto found = config.adapter.modules.find(module_of_weight(part.name));
          found != config.adapter.modules.end())
        rank += found->second.rank, scale = std::max(scale, config.adapter.scale(found->second));
    if (rank == 0) continue;
    for (const FusedTensor::Part& part : tensor.parts) {
      const std::string name = module_of_weight(part.name);
      const auto found = config.adapter.modules.find(name);
      if (found == config.adapter.modules.end()) {
        whole.parts.push_back({"", "", part.rows});
        continue;
      }
      whole.parts.push_back({adapter_a_name(name), adapter_b_name(name), part.rows, found->second.rank,
                             config.adapter.scale(found->second) / scale});
      adapter.modules.erase(name);
    }
    const auto ranks = static_cast<double>(rank);
    adapter.modules[module] = {rank, scale * (config.adapter.rslora ? std::sqrt(ranks) : ranks)};
    fused.push_back(std::move(whole));
  }
  return {std::move(fused), std::move(adapter)};
}

}  // namespace carillon
