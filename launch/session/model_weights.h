// A model's weights on this rank, alone in one piece of memory: for commands that bring activations of their own.
#pragma once

#include <memory>

#include "model/parameters.h"
#include "parallel/process_grid.h"

namespace carillon {

class ModelWeights {
 public:
  // Error 64 when the grid does not fit the model's heads, 74 when there is no memory. Values are to be loaded.
  ModelWeights(Backend& backend, const ProcessGrid& grid, const ModelConfig& config, DType compute);

  Parameters& parameters() { return *parameters_; }

 private:
  Arena arena_;
  std::unique_ptr<Parameters> parameters_;
};

}  // namespace carillon
