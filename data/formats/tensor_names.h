// The names of stored tensors in this program: those of the state dict of Hugging Face's causal model,
// "model.layers.0.self_attn.q_proj.weight". The only place that knows other naming conventions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/parse_json.h"

namespace carillon {

// Maps our names to the stored ones, for every stored tensor; a name without a rule stays. `config` is the parsed
// config.json, for rules that depend on the model family. The rules are those of transformers:
//   a model saved without its head lacks `model.`: it is added unless that name is stored too;
//   in a wrapper (text_config in config.json) the text model's tensors lose their prefix (`language_model.`,
//   `model.text_model.`, …), and the vision part is left out, with one line in `notices` that counts its tensors;
//   a tied model may store its only matrix as the head: lm_head.weight is then model.embed_tokens.weight.
// Error 65 for a prefix that a wrapper class put before all names (`_orig_mod.` of torch.compile, `module.` of
// DataParallel): transformers does not recognise it either and draws random weights instead.
std::map<std::string, std::string> our_tensor_names(const std::vector<std::string>& stored, const Json& config,
                                                    const std::string& path, std::vector<std::string>& notices);

// Whether config.json ties the head to the embedding; `otherwise` if it does not say.
bool ties_embeddings(const Json& config, bool otherwise);

}  // namespace carillon
