#include "launch/session/run_checks.h"

#include <algorithm>
#include <cstdint>

#include "launch/session/ranks.h"
#include "model/rope.h"
#include "model/rope_laws.h"
#include "parallel/context/sequence_layout.h"
#include "runtime/error.h"

namespace carillon {

void require_layout(const RunConfig& config, int ranks) {
  (void)grid_shape(config.parallel, ranks);
  SequenceLayout(config.parallel.layout, config.data.sequence_length, static_cast<int>(config.parallel.context),
                 static_cast<int>(config.parallel.tensor));
  if (config.model.base) return;
  const ModelConfig model =
      parse_model_config(config.model.config_json(), "the configuration's model:", ExitCode::kUsage);
  require_tensor_parallel(model, config.parallel.tensor);
}

void require_possible_sizes(const ModelConfig& model, const RunConfig& config) {
  constexpr int64_t kMostLayers = 10000;
  if (model.num_hidden_layers > kMostLayers)
    fail(ExitCode::kUsage, "num_hidden_layers is {}, in the model's configuration, {} are the most",
         model.num_hidden_layers, kMostLayers);
  if (model.vocab_size > INT32_MAX)
    fail(ExitCode::kUsage, "vocab_size is {}, in the model's configuration, {} is the most", model.vocab_size,
         INT32_MAX);
  const auto check = [&](const char* what, double bytes, double most) {
    if (bytes > most)
      fail(ExitCode::kUsage, "{} would take {:.3g} GiB, in the configuration, no machine holds that: correct the sizes",
           what, bytes / (1 << 30));
  };
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double hidden = number(model.hidden_size), layers = number(model.num_hidden_layers);
  const double vocabulary = number(model.vocab_size), inner = number(model.intermediate_size);
  const double heads = number(model.num_attention_heads) * number(model.head_dim);
  check("the model with its optimizer", 16 * hidden * (2 * vocabulary + layers * (4 * heads + 3 * inner)), 0x1p52);
  const double rows = number(config.data.sequence_length) * number(config.train.micro_batch_size);
  check("a micro-batch", 8 * rows * (layers * std::max({hidden, heads, inner}) + vocabulary), 0x1p56);
  check("a step's sequences", 8 * rows * number(config.train.gradient_accumulation_steps), 0x1p56);
}

std::optional<std::string> base_bound_warning(const ModelConfig& model, int64_t length) {
  int64_t reach = 0;  // of the layers that use model.rope
  for (const LayerSpec& layer : model.layers)
    if (layer.attention.rotates && (layer.attention.window == 0 || !model.sliding_rope))
      reach = std::max(reach, layer.attention.window == 0 ? length : std::min(length, layer.attention.window));
  const RopeTable table = make_rope_table(model.rope, model.head_dim, length);
  const std::optional<int64_t> negative = first_negative_similarity(table.inverse_frequency, reach, 1 << 16);
  if (!negative) return std::nullopt;
  return fmt::format(
      "from a distance of {} tokens on, a key similar to the query scores below a random one (2405.14591), and "
      "positions reach {}: what lies further back may not be found, however low the loss; raise rope.base or "
      "rope.factor (carillon rope shows the bound)",
      *negative, length);
}

}  // namespace carillon
