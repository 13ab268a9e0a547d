// AdamW's user settings and their defaults; the configuration's keys and the optimizer both use this struct.
#pragma once

#include <optional>

namespace carillon {

struct AdamWSettings {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.01;                 // matrices only
  std::optional<double> max_grad_norm = 1.0;  // of the global L2 norm; empty: no clipping
};

}  // namespace carillon
