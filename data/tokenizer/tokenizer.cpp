#include "data/tokenizer/tokenizer.h"

#include <xxhash.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/formats/hugging_face_folder.h"
#include "data/tokenizer/hugging_face_tokenizer.h"
#include "data/tokenizer/sentence_piece.h"
#include "runtime/error.h"
#include "runtime/foreign_error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// tokenizer_config.json's eos_token: a text, or an object with the text as `content`.
std::string end_token(const std::string& config, const std::string& where) {
  if (config.empty()) return "";
  const Json json = Json::parse(config, nullptr, false);
  if (json.is_discarded() || !json.is_object())
    fail(ExitCode::kBadInput, "is no JSON object, {}, fetch it again", where);
  const auto token = json.find("eos_token");
  if (token == json.end()) return "";
  if (token->is_string()) return token->get<std::string>();
  if (token->is_object() && token->contains("content") && (*token)["content"].is_string())
    return (*token)["content"].get<std::string>();
  return "";
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_json(const std::string& where, const std::string& tokenizer_json,
                                                const std::string& tokenizer_config_json) {
  auto tokenizer = std::make_unique<HuggingFaceTokenizer>(where, tokenizer_json);
  tokenizer->path_ = where;
  tokenizer->hash_ = XXH3_64bits(tokenizer_json.data(), tokenizer_json.size());
  if (const std::string end = end_token(tokenizer_config_json, where + " (tokenizer_config.json)"); !end.empty())
    tokenizer->eos_ = tokenizer->id_of(end);
  return tokenizer;
}

std::unique_ptr<Tokenizer> Tokenizer::open(const std::string& path) {
  const WorkingOn here(path);
  fs::path file(path);
  if (fs::is_directory(file)) {
    if (fs::exists(file / "tokenizer.json"))
      file /= "tokenizer.json";
    else if (fs::exists(file / "tokenizer.model"))
      file /= "tokenizer.model";
    else
      fail(ExitCode::kMissingInput, "there is neither tokenizer.json nor tokenizer.model, {}, correct the path", path);
  }
  const std::string text = read_whole_file(file.string());
  if (file.extension() == ".model") {
    auto tokenizer = std::make_unique<SentencePieceTokenizer>(file.string(), text);
    tokenizer->path_ = file.string();
    tokenizer->hash_ = XXH3_64bits(text.data(), text.size());
    return tokenizer;
  }
  const fs::path config = file.parent_path() / "tokenizer_config.json";
  return from_json(file.string(), text, fs::exists(config) ? read_whole_file(config.string()) : "");
}

}  // namespace carillon
