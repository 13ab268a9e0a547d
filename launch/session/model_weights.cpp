#include "launch/session/model_weights.h"

namespace carillon {

ModelWeights::ModelWeights(Backend& backend, const ProcessGrid& grid, const ModelConfig& config, DType compute) {
  require_tensor_parallel(config, grid.shape.tensor);
  const TensorShards shards(config, grid.shape.tensor, grid.tp_rank);
  const ParameterOptions options{compute, /*gradients=*/false, /*shared_layer_gradients=*/false};
  Arena measuring;
  Parameters measured(config, shards, options, measuring);
  arena_ = Arena(backend.allocate(measuring.peak()));
  parameters_ = std::make_unique<Parameters>(config, shards, options, arena_);
}

}  // namespace carillon
