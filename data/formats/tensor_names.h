// What stored tensors are called in this program: as in the state dict of Hugging Face's causal model,
// "model.layers.0.self_attn.q_proj.weight". The one place for other writers' conventions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/parse_json.h"

namespace carillon {

// Our name -> stored name, for every stored tensor; a name without a rule stays. `config`: the parsed config.json, for
// rules that go by the family. Rules, as transformers has them:
//   a model saved without its head lacks `model.`: it is added where that name is not stored as well;
//   a wrapper's (text_config in config.json) are those of its text model: `language_model.` in front of them goes, and
//   the vision part is left out, with one line in `notices` that counts it;
//   a tied model may store its one matrix as the head: lm_head.weight is then model.embed_tokens.weight.
// Error 65 for names that a wrapper class put before all others (`_orig_mod.` of torch.compile, `module.` of
// DataParallel): transformers does not know them either, and draws random weights in their place.
std::map<std::string, std::string> our_tensor_names(const std::vector<std::string>& stored, const Json& config,
                                                    const std::string& path, std::vector<std::string>& notices);

// Whether config.json ties the head to the embedding; `otherwise` where it does not say.
bool ties_embeddings(const Json& config, bool otherwise);

}  // namespace carillon
