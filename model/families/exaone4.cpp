// EXAONE 4: norms only after attention and MLP, q/k norms per head. If some layers have windows, the others do not
// rotate.
#include "model/families/family.h"

namespace carillon {

void read_exaone4(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.norms = NormPlacement::kAfter;
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
  const int64_t width = fields.window(4096);
  int64_t pattern = 4;
  if (fields.has("sliding_window_pattern") && fields.text("sliding_window_pattern").empty())
    pattern = fields.count("sliding_window_pattern", 4);
  const std::string letters = fields.text("sliding_window_pattern");  // "LLLG": local and global layers in turn
  fields.set_windows(config, width, [&](int64_t layer) {
    if (width == 0 || (letters.empty() && pattern == 0)) return false;
    if (letters.empty()) return (layer + 1) % pattern != 0;
    return layer + 1 < config.num_hidden_layers && letters[static_cast<size_t>(layer) % letters.size()] == 'L';
  });
  for (LayerSpec& layer : config.layers) layer.attention.rotates = width == 0 || layer.attention.window > 0;
}

}  // namespace carillon
