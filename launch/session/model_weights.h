// A model's weights on this rank, without activations, in one allocation: for commands that allocate their own
// activations.
#pragma once

#include <memory>

#include "model/parameters.h"
#include "parallel/process_grid.h"

namespace carillon {

class ModelWeights {
 public:
  // Throws error 64 if the grid does not fit the model's heads, 74 if memory is insufficient. The weights still have to
  // be loaded.
  ModelWeights(Backend& backend, const ProcessGrid& grid, const ModelConfig& config, DType compute);

  Parameters& parameters() { return *parameters_; }

 private:
  Arena arena_;
  std::unique_ptr<Parameters> parameters_;
};

}  // namespace carillon
