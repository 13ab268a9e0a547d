#include "launch/inference/score_documents.h"

#include "runtime/json_lines.h"

namespace carillon {
namespace {

ScoreDocument read_line(const Json& json, int64_t number, const std::string& where, int64_t vocabulary,
                        const Encode& encode) {
  ScoreDocument document;
  document.id = json.contains("id") ? json["id"] : Json(number);
  if (json.contains("tokens")) {
    if (!json["tokens"].is_array()) fail(ExitCode::kBadInput, "tokens is not a list, {}, give token ids", where);
    document.tokens.reserve(json["tokens"].size());
    for (const Json& token : json["tokens"]) {
      const std::optional<int64_t> id = integer_of(token);
      if (!id || *id < 0 || *id >= vocabulary) {
        fail(ExitCode::kBadInput, "token {} is not an id below {}, {}, take the model's own vocabulary", token.dump(),
             vocabulary, where);
      }
      document.tokens.push_back(static_cast<int32_t>(*id));
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
  JsonLines lines(path, JsonLines::LastLine::kRead, "write one {\"tokens\":[…]} a line");
  if (!lines.opened()) fail(ExitCode::kMissingInput, "cannot read {}, input=, give a file of JSON lines", path);
  std::vector<ScoreDocument> documents;
  while (const auto json = lines.next())
    documents.push_back(read_line(*json, lines.line() - 1, lines.place(), vocabulary, encode));
  return documents;
}

}  // namespace carillon
