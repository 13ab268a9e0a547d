#include <cmath>

#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

void ReferenceBackend::adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) {
  const auto update = [&]<class A>(const AdamWTensors& x, A) {
    const auto w = x.master.span<A>(), m = x.exp_avg.span<A>(), v = x.exp_avg_sq.span<A>(), g = x.gradient.span<A>();
    const A beta1 = A(step.beta1), beta2 = A(step.beta2), epsilon = A(step.epsilon), factor = A(step.gradient_scale);
    const A decay = x.decays ? A(1 - step.learning_rate * step.weight_decay) : A(1);
    const A step_size = A(step.learning_rate / (1 - std::pow(step.beta1, static_cast<double>(step.step))));
    const A correction2 = A(std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))));
    for (size_t i = 0; i < w.size(); ++i) {
      const A slope = g[i] * factor;
      m[i] = beta1 * m[i] + (1 - beta1) * slope;
      v[i] = beta2 * v[i] + (1 - beta2) * slope * slope;
      w[i] = w[i] * decay - step_size * m[i] / (std::sqrt(v[i]) / correction2 + epsilon);
    }
  };
  for (const AdamWTensors& x : tensors) {
    if (x.master.empty()) continue;
    x.master.dtype() == DType::kFloat64 ? update(x, double{}) : update(x, float{});
    if (x.weight && x.weight.raw() != x.master.raw()) copy(x.weight, x.master);
  }
}

}  // namespace carillon
