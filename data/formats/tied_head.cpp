#include "data/formats/tied_head.h"

#include <algorithm>
#include <cstring>

#include "data/checkpoint/stored_values.h"
#include "data/formats/tensor_names.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

constexpr int64_t kBlock = 1 << 16;  // elements compared at a time if the types differ

bool is_floating(StoredType type) {
  return type == StoredType::kFloat64 || type == StoredType::kFloat32 || type == StoredType::kFloat16 ||
         type == StoredType::kBFloat16;
}

}  // namespace

bool equal_values(const StoredValues& a, const StoredValues& b) {
  if (a.shape != b.shape) return false;
  const int64_t count = Rectangle::whole(a.shape).count();
  if (a.type == b.type) return std::memcmp(a.data, b.data, static_cast<size_t>(count * size_of(a.type))) == 0;
  if (!is_floating(a.type) || !is_floating(b.type)) return false;
  std::vector<double> left(static_cast<size_t>(std::min(count, kBlock))), right(left.size());
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t length = std::min(kBlock, count - begin);
    const auto widen = [&](const StoredValues& from, std::vector<double>& to) {
      convert_stored(Tensor(to.data(), DType::kFloat64, {length}),
                     static_cast<const char*>(from.data) + begin * size_of(from.type), from.type);
    };
    widen(a, left);
    widen(b, right);
    if (!std::equal(left.begin(), left.begin() + length, right.begin())) return false;
  }
  return true;
}

std::string config_of_stored_head(const std::string& config, const std::function<bool()>& equal,
                                  const std::string& path, std::vector<std::string>& notices) {
  std::optional<Json> json = try_parse_json(config);
  if (!json || !json->is_object()) return config;  // the reader of config.json reports the error
  const bool nested = json->contains("text_config") && (*json)["text_config"].is_object();
  const Json inner = nested ? (*json)["text_config"] : Json::object();
  if (!ties_embeddings(*json, true) && !ties_embeddings(inner, false)) return config;
  if (equal()) return config;
  if (ties_embeddings(*json, false) || ties_embeddings(inner, false))
    notices.push_back(
        fmt::format("config.json says tie_word_embeddings, but lm_head.weight is stored and differs from "
                    "model.embed_tokens.weight: read as not tied, as transformers does, in {}",
                    path));
  (*json)["tie_word_embeddings"] = false;
  if (nested && inner.contains("tie_word_embeddings")) (*json)["text_config"]["tie_word_embeddings"] = false;
  return json->dump(2);
}

}  // namespace carillon
