// Verifies that a layout changes nothing: runs the same training steps on this grid and, on every rank separately, on
// one rank, and compares them step by step and tensor by tensor.
#pragma once

#include <string>
#include <vector>

#include "launch/config/run_config.h"
#include "launch/session/opened_model.h"

namespace carillon {

struct LayoutCheckOptions {
  int64_t steps = 3;
  std::optional<DType> dtype = DType::kFloat64;  // not set: the run's own type
  double tolerance = 0;                          // 0: what rounding explains for that type
  bool shrink = false;  // two layers with fresh weights, if the whole model does not fit one rank
};

struct TensorDifference {
  std::string name;
  double gradient = 0;  // largest |difference| of the first step's averaged gradient over the tensor's largest entry
  double weight = 0;    // the same for the weights after the last step
};

struct LayoutCheck {
  DType dtype;
  double tolerance;
  double loss = 0, gradient_norm = 0;  // largest relative difference in any step
  std::vector<TensorDifference> tensors;
  bool agrees() const;
};

// Runs the comparison. Collective, with the same result on every rank. Every rank holds the whole model once: error 74
// if it does not fit. Other errors of the configuration, model and data are those of `train`.
LayoutCheck check_layout(std::unique_ptr<Communicator> world, RunConfig config, const LayoutCheckOptions& options,
                         const Notice& notice);

}  // namespace carillon
