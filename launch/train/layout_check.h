// Proof that a layout changes nothing: the same training steps on this grid and, on every rank for itself, on one rank;
// compared step by step and tensor by tensor.
#pragma once

#include <string>
#include <vector>

#include "launch/config/run_config.h"
#include "launch/session/opened_model.h"

namespace carillon {

struct LayoutCheckOptions {
  int64_t steps = 3;
  std::optional<DType> dtype = DType::kFloat64;  // nothing: the run's own
  double tolerance = 0;                          // 0: what rounding explains at that type
  bool shrink = false;  // two layers with fresh weights, where the whole model does not fit one rank
};

struct TensorDifference {
  std::string name;
  double gradient = 0;  // largest |difference| of the first step's averaged gradient over the tensor's largest entry
  double weight = 0;    // the same of the weights after the last step
};

struct LayoutCheck {
  DType dtype;
  double tolerance;
  double loss = 0, gradient_norm = 0;  // largest relative difference of any step
  std::vector<TensorDifference> tensors;
  bool agrees() const;
};

// Collective; the same result on every rank. Every rank holds the whole model once: error 74 where it does not fit.
// Errors of the configuration, model and data as `train`.
LayoutCheck check_layout(std::unique_ptr<Communicator> world, RunConfig config, const LayoutCheckOptions& options,
                         const Notice& notice);

}  // namespace carillon
