#include "data/formats/tensor_names.h"

#include <algorithm>
#include <set>

namespace carillon {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

const char* wrapper_of(const std::string& name) {
  for (const char* wrapper : {"_orig_mod.", "module.", "_fsdp_wrapped_module.", "_forward_module."})
    if (name.starts_with(wrapper)) return wrapper;
  return nullptr;
}

bool is_inside_model(const std::string& name) {
  return name.starts_with("layers.") || name.starts_with("embed_tokens.") || name.starts_with("norm.");
}

}  // namespace

bool ties_embeddings(const Json& config, bool otherwise) {
  if (config.is_object() && config.contains("tie_word_embeddings") && config["tie_word_embeddings"].is_boolean())
    return config["tie_word_embeddings"].get<bool>();
  return otherwise;
}

std::map<std::string, std::string> our_tensor_names(const std::vector<std::string>& stored, const Json& config,
                                                    const std::string& path) {
  const std::set<std::string> present(stored.begin(), stored.end());
  std::map<std::string, std::string> ours;
  const auto wrapped =
      std::find_if(stored.begin(), stored.end(), [](const auto& name) { return wrapper_of(name) != nullptr; });
  if (wrapped != stored.end())
    fail(
        ExitCode::kBadInput,
        "tensor {} begins with {}, the name of a wrapper around the model, {}, save the state dict of the model inside "
        "it (model._orig_mod, model.module) or rename the tensors",
        *wrapped, wrapper_of(*wrapped), path);
  for (const std::string& name : stored) {
    const std::string inside = "model." + name;
    ours[is_inside_model(name) && !present.contains(inside) ? inside : name] = name;
  }
  if (ties_embeddings(config, false) && ours.contains(kHead) && !ours.contains(kEmbedding)) {
    ours[kEmbedding] = ours[kHead];
    ours.erase(kHead);
  }
  return ours;
}

}  // namespace carillon
