#include "launch/plan/useful_work.h"

#include "model/parameters.h"

namespace carillon {

namespace {

template <class Counts>
int64_t count_products(const ModelConfig& model, Counts counts) {
  Arena measuring;
  Parameters parameters(model, TensorShards(model, 1, 0), {DType::kFloat32, false, false}, measuring);
  int64_t count = 0;
  parameters.for_each([&](Parameter& parameter) {
    const bool looked_up = &parameter == &parameters.embedding && parameters.lm_head;
    if (parameter.rectangle.global_shape.size() == 2 && !looked_up && !parameter.rotation && counts(parameter))
      count += parameter.rectangle.count();
  });
  return count;
}

}  // namespace

int64_t product_parameters(const ModelConfig& model) {
  return count_products(model, [](const Parameter&) { return true; });
}

int64_t frozen_product_parameters(const ModelConfig& model) {
  return count_products(model, [](const Parameter& parameter) { return parameter.frozen; });
}

double useful_pairs(int64_t length, int64_t window) {
  const double s = static_cast<double>(length), w = static_cast<double>(window);
  return window == 0 || window >= length ? s * s / 2 : s * w - w * w / 2;
}

double useful_flops_per_token(const ModelConfig& model, int64_t length) {
  double pairs = 0;  // over the layers
  for (const LayerSpec& layer : model.layers) pairs += useful_pairs(length, layer.attention.window);
  // A frozen weight has no gradient product: 4 instead of 6.
  return 6.0 * static_cast<double>(product_parameters(model)) -
         2.0 * static_cast<double>(frozen_product_parameters(model)) +
         12.0 * static_cast<double>(model.num_attention_heads * model.head_dim) * pairs / static_cast<double>(length);
}

}  // namespace carillon
