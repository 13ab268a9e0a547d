#include "data/formats/tensor_names.h"

#include <algorithm>
#include <optional>
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

// What stands before the names of a wrapper's text model (model.language_model., model.text_model., …): the same before
// its embedding, its first layer and its last norm. Nothing if no prefix or several fit.
std::optional<std::string> prefix_of_text_model(const std::vector<std::string>& stored) {
  constexpr std::string_view kEnd = "embed_tokens.weight";
  const std::set<std::string> present(stored.begin(), stored.end());
  std::optional<std::string> found;
  for (const std::string& name : stored) {
    if (!name.ends_with(kEnd)) continue;
    const std::string prefix = name.substr(0, name.size() - kEnd.size());
    if (!(prefix.empty() || prefix.ends_with('.')) || !present.contains(prefix + "norm.weight") ||
        !present.contains(prefix + "layers.0.self_attn.o_proj.weight"))
      continue;
    if (found) return std::nullopt;
    found = prefix;
  }
  return found;
}

// The text model's name for a tensor of a wrapper around it (text_config in config.json), as transformers 4 and 5 write
// them; nothing for a tensor of another part.
std::optional<std::string> name_in_text_model(const std::string& name, const std::optional<std::string>& prefix) {
  if (name == "language_model.lm_head.weight" || name == kHead) return kHead;
  if (prefix) {
    if (name.ends_with(std::string(".") + kHead) &&
        prefix->starts_with(name.substr(0, name.size() - std::string_view(kHead).size())))
      return kHead;
    const bool inside = name.starts_with(*prefix) && is_inside_model(name.substr(prefix->size()));
    return inside ? std::optional("model." + name.substr(prefix->size())) : std::nullopt;
  }
  for (const std::string_view known : {"model.language_model.", "language_model.model.", "language_model."})
    if (name.starts_with(known)) return "model." + name.substr(known.size());
  if (is_inside_model(name) || (name.starts_with("model.") && is_inside_model(name.substr(6)))) return name;
  return std::nullopt;
}

std::map<std::string, std::string> names_of_text_model(const std::vector<std::string>& stored, const std::string& path,
                                                       std::vector<std::string>& notices) {
  const std::optional<std::string> prefix = prefix_of_text_model(stored);
  std::map<std::string, std::string> ours;
  int64_t others = 0;
  for (const std::string& name : stored) {
    if (const auto inside = name_in_text_model(name, prefix))
      ours[*inside] = name;
    else
      ++others;
  }
  if (others > 0)
    notices.push_back(fmt::format("{} holds {} tensor{} of the vision part, left out: the text model is read", path,
                                  others, others == 1 ? "" : "s"));
  return ours;
}

}  // namespace

bool ties_embeddings(const Json& config, bool otherwise) {
  if (config.is_object() && config.contains("tie_word_embeddings") && config["tie_word_embeddings"].is_boolean())
    return config["tie_word_embeddings"].get<bool>();
  return otherwise;
}

std::map<std::string, std::string> our_tensor_names(const std::vector<std::string>& stored, const Json& config,
                                                    const std::string& path, std::vector<std::string>& notices) {
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
  if (config.is_object() && config.contains("text_config") && config["text_config"].is_object())
    ours = names_of_text_model(stored, path, notices);
  else
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
