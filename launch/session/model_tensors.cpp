#include "launch/session/model_tensors.h"

#include "model/parameters.h"

namespace carillon {

std::vector<TensorShape> tensors_of(const ModelConfig& config, int64_t stored, int64_t elements,
                                    const std::string& path) {
  const auto need = [&](const char* what, int64_t a, int64_t b, int64_t limit) {
    int64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product) || product > limit)
      fail(ExitCode::kBadInput,
           "config.json says {} of {} by {}, but {} tensors with {} numbers are stored, {}, use the config.json of "
           "these "
           "weights",
           what, a, b, stored, elements, path);
  };
  need("num_hidden_layers", config.num_hidden_layers, 1, stored);
  need("vocab_size and hidden_size", config.vocab_size, config.hidden_size, elements);
  need("intermediate_size and hidden_size", config.intermediate_size, config.hidden_size, elements);
  need("num_attention_heads and head_dim", config.num_attention_heads, config.head_dim, elements);
  need("query width and hidden_size", config.num_attention_heads * config.head_dim, config.hidden_size, elements);
  Arena measuring;
  Parameters parameters(config, TensorShards(config, 1, 0),
                        {DType::kFloat32, /*gradients=*/false, /*shared_layer_gradients=*/false}, measuring);
  std::vector<TensorShape> tensors;
  parameters.for_each([&](const Parameter& parameter) {
    if (!parameter.adapter) tensors.push_back({parameter.name, parameter.rectangle.global_shape});
  });
  return tensors;
}

std::vector<TensorShape> tensors_of(const ModelConfig& config, const ModelSource& source) {
  require_readable(source);
  int64_t stored = 0, elements = 0;
  for (const std::string& name : source.tensor_names()) {
    ++stored;
    elements += Rectangle::whole(source.stored(name).shape).count();
  }
  return tensors_of(config, stored, elements, source.path());
}

}  // namespace carillon
