#include <cmath>

#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

void ReferenceBackend::adamw(Tensor weight, Tensor master, Tensor exp_avg, Tensor exp_avg_sq, Tensor gradient,
                             const AdamWStep& step) {
  if (master.empty()) return;
  const auto update = [&]<class A>(A) {
    const auto w = master.span<A>(), m = exp_avg.span<A>(), v = exp_avg_sq.span<A>(), g = gradient.span<A>();
    const A beta1 = A(step.beta1), beta2 = A(step.beta2), epsilon = A(step.epsilon), factor = A(step.gradient_scale);
    const A decay = A(1 - step.learning_rate * step.weight_decay);
    const A step_size = A(step.learning_rate / (1 - std::pow(step.beta1, static_cast<double>(step.step))));
    const A correction2 = A(std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))));
    for (size_t i = 0; i < w.size(); ++i) {
      const A slope = g[i] * factor;
      m[i] = beta1 * m[i] + (1 - beta1) * slope;
      v[i] = beta2 * v[i] + (1 - beta2) * slope * slope;
      w[i] = w[i] * decay - step_size * m[i] / (std::sqrt(v[i]) / correction2 + epsilon);
    }
  };
  master.dtype() == DType::kFloat64 ? update(double{}) : update(float{});
  if (weight && weight.raw() != master.raw()) copy(weight, master);
}

}  // namespace carillon
