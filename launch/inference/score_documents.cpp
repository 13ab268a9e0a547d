#include "launch/inference/score_documents.h"

#include <filesystem>
#include <fstream>

#include "runtime/error.h"

namespace carillon {
namespace {

ScoreDocument read_line(const std::string& line, int64_t number, const std::string& where, int64_t vocabulary,
                        const Encode& encode) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(ExitCode::kBadInput, "not a JSON object, {}, write one {{\"tokens\":[…]}} a line", where);
  ScoreDocument document;
  document.id = json.contains("id") ? json["id"] : Json(number);
  if (json.contains("tokens")) {
    if (!json["tokens"].is_array()) fail(ExitCode::kBadInput, "tokens is not a list, {}, give token ids", where);
    document.tokens.reserve(json["tokens"].size());
    for (const Json& token : json["tokens"]) {
      if (!token.is_number_integer() || token.get<int64_t>() < 0 || token.get<int64_t>() >= vocabulary) {
        fail(ExitCode::kBadInput, "token {} is not an id below {}, {}, take the model's own vocabulary", token.dump(),
             vocabulary, where);
      }
      document.tokens.push_back(token.get<int32_t>());
    }
  } else if (json.contains("text") && json["text"].is_string()) {
    document.tokens = encode(json["text"].get<std::string>());
    for (int32_t token : document.tokens)
      if (token >= vocabulary)
        fail(ExitCode::kBadInput,
             "the tokenizer gives token {}, the model knows {}, {}, take the model's own tokenizer", token, vocabulary,
             where);
  } else {
    fail(ExitCode::kBadInput, "neither tokens nor text, {}, give one of them", where);
  }
  if (document.tokens.empty()) fail(ExitCode::kBadInput, "an empty document, {}, remove the line", where);
  return document;
}

}  // namespace

std::vector<ScoreDocument> read_score_documents(const std::string& path, int64_t vocabulary, const Encode& encode) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path))
    fail(ExitCode::kMissingInput, "cannot read {}, input=, give a file of JSON lines", path);
  std::vector<ScoreDocument> documents;
  std::string line;
  for (int64_t number = 0; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    documents.push_back(read_line(line, number, fmt::format("{}:{}", path, number + 1), vocabulary, encode));
  }
  if (file.bad()) fail(ExitCode::kInputOutput, "reading failed, {}, try again", path);
  return documents;
}

}  // namespace carillon
