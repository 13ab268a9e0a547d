#include "data/formats/gguf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "data/formats/gguf_vocabulary.h"
#include "data/formats/hugging_face_folder.h"
#include "data/tokenizer/sentence_piece_file.h"
#include "data/tokenizer/token_configuration.h"
#include "data/tokenizer/word_splitter.h"
#include "runtime/error.h"

namespace carillon {
namespace {

using Json = nlohmann::json;

std::string text_of(const std::map<std::string, std::string>& files, const char* name) {
  const auto found = files.find(name);
  return found == files.end() ? "" : found->second;
}

[[noreturn]] void refuse(const std::string& what, const std::string& where) {
  fail(ExitCode::kUsage, "{}, which llama.cpp's tokenizers do not do, the tokenizer of {}, export format=hf", what,
       where);
}

bool is_byte_level(const Json& step, bool cuts_words) {
  return step.value("type", "") == "ByteLevel" && !step.value("add_prefix_space", true) &&
         step.value("use_regex", true) == cuts_words;
}

// llama.cpp's name for the way in which this tokenizer.json splits words.
std::string name_of_cut(const Json& file, const std::string& where) {
  Json steps = file.value("pre_tokenizer", Json());
  steps = steps.is_object() && steps.value("type", "") == "Sequence" ? steps.value("pretokenizers", Json::array())
                                                                     : Json::array({steps});
  const bool whole_words = file["model"].value("ignore_merges", false);
  std::string name;
  if (steps.size() == 1 && is_byte_level(steps[0], true)) name = "gpt-2";
  if (steps.size() == 2 && steps[0].value("type", "") == "Digits" && steps[0].value("individual_digits", false) &&
      is_byte_level(steps[1], true))
    name = "smollm";
  if (steps.size() == 2 && steps[0].value("type", "") == "Split" && is_byte_level(steps[1], false)) {
    const std::string behavior = steps[0].value("behavior", "");
    const bool inverted = steps[0].value("invert", false);
    const Json pattern = steps[0].value("pattern", Json::object()).value("Regex", Json());
    // The patterns match every character of a text, so nothing between matches is removed.
    if ((behavior == "Isolated" && !inverted) || (behavior == "Removed" && inverted)) {
      if (pattern == WordSplitter::kQwen2) name = "qwen2";
      if (pattern == WordSplitter::kLlama3) return whole_words ? "llama-bpe" : "smaug-bpe";
    }
  }
  if (name.empty()) refuse("cuts words by " + file.value("pre_tokenizer", Json()).dump().substr(0, 200), where);
  if (whole_words) refuse("takes words that are tokens whole (ignore_merges) and cuts as " + name, where);
  return name;
}

void add_byte_level(const Json& file, const GgufVocabulary& asked, GgufTokens& tokens, GgufKeys& keys,
                    std::vector<std::string>& notices) {
  const Json normalizer = file.value("normalizer", Json());
  if (!normalizer.is_null() && normalizer.value("type", "") != "NFC")
    refuse("normalises by " + normalizer.dump().substr(0, 200), asked.where);
  if (!normalizer.is_null())
    notices.push_back(
        "the tokenizer normalises text to NFC, llama.cpp does not: text in another form becomes other tokens");
  keys.emplace_back("tokenizer.ggml.model", "gpt2");
  keys.emplace_back("tokenizer.ggml.pre", name_of_cut(file, asked.where));
  const Json& model = file["model"];
  for (const auto& [text, id] : model["vocab"].items())
    tokens.set(id.get<int64_t>(), text,
               model.value("unk_token", Json()) == text ? SentencePieceFile::kUnknown : SentencePieceFile::kNormal);
  std::vector<std::string> merges;
  for (const auto& [left, right] : merges_of(model)) {
    if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos)
      refuse("merges '" + left + "' and '" + right + "', with a blank", asked.where);
    merges.push_back(left + " " + right);
  }
  keys.emplace_back("tokenizer.ggml.merges", std::move(merges));
}

// Whether a blank is put in front of texts; error 64 for any other normalisation than SentencePiece's.
bool blank_in_front(const Json& file, const std::string& where) {
  constexpr const char* kBlank = "\u2581";
  bool in_front = false, replaces = false;
  Json steps = file.value("normalizer", Json());
  if (!steps.is_null())
    steps = steps.value("type", "") == "Sequence" ? steps.value("normalizers", Json::array()) : Json::array({steps});
  for (const Json& step : steps) {
    if (step.value("type", "") == "Prepend" && step.value("prepend", "") == kBlank && !replaces)
      in_front = true;
    else if (step.value("type", "") == "Replace" && step.value("content", "") == kBlank &&
             step.value("pattern", Json::object()).value("String", "") == " ")
      replaces = true;
    else
      refuse("normalises by " + step.dump().substr(0, 200), where);
  }
  const Json cut = file.value("pre_tokenizer", Json());
  if (!cut.is_null() && cut.value("type", "") == "Metaspace" && cut.value("replacement", "") == kBlank &&
      !cut.value("split", true)) {
    in_front = cut.value("prepend_scheme", "always") != "never";
    replaces = true;
  } else if (!cut.is_null() && !(replaces && cut.value("type", "") == "Split" &&
                                 cut.value("pattern", Json::object()).value("String", "") == " ")) {
    // (Gemma splits at blanks, of which none are left.)
    refuse("cuts words by " + cut.dump().substr(0, 200), where);
  }
  if (!replaces) refuse("writes no U+2581 for blanks", where);
  return in_front;
}

// User-defined pieces are matched in the unmodified text, which has blanks in place of U+2581.
void add_piece(const SentencePieceFile::Piece& piece, int64_t id, GgufTokens& tokens) {
  std::string text = piece.text;
  constexpr std::string_view kBlank = "\u2581";
  if (piece.kind == SentencePieceFile::kUserDefined)
    for (size_t at = text.find(kBlank); at != std::string::npos; at = text.find(kBlank))
      text.replace(at, kBlank.size(), " ");
  tokens.set(id, text, piece.kind);
  tokens.score[static_cast<size_t>(id)] = piece.score;
}

void add_sentence_pieces(const Json& file, const GgufVocabulary& asked, GgufTokens& tokens, GgufKeys& keys) {
  const Json& model = file["model"];
  if (model.value("ignore_merges", false)) refuse("takes words that are tokens whole (ignore_merges)", asked.where);
  keys.emplace_back("tokenizer.ggml.model", "llama");
  keys.emplace_back("tokenizer.ggml.pre", "default");
  keys.emplace_back("tokenizer.ggml.add_space_prefix", blank_in_front(file, asked.where));
  int bytes = 0;
  for (const auto& [text, id] : model["vocab"].items()) {
    const bool byte = text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
    bytes += byte;
    tokens.set(id.get<int64_t>(), text,
               byte                                       ? SentencePieceFile::kByte
               : model.value("unk_token", Json()) == text ? SentencePieceFile::kUnknown
                                                          : SentencePieceFile::kNormal);
  }
  if (bytes != 256) refuse(fmt::format("has {} of the 256 byte tokens", bytes), asked.where);
  // If the original tokenizer.model lies next to the converted file, use its scores.
  if (const std::string original = text_of(asked.files, "tokenizer.model"); !original.empty()) {
    const auto pieces = SentencePieceFile::parse(original, asked.where + " (tokenizer.model)").pieces;
    bool same = true;
    for (size_t id = 0; id < pieces.size() && same; ++id)
      same = static_cast<int64_t>(id) < asked.rows && tokens.text[id] == pieces[id].text;
    if (same)
      for (size_t id = 0; id < pieces.size(); ++id) add_piece(pieces[id], static_cast<int64_t>(id), tokens);
    if (same) return;
  }
  score_by_merges(merges_of(model), tokens, [&](const std::string& what) { refuse(what, asked.where); });
}

void add_sentence_piece_file(const GgufVocabulary& asked, GgufTokens& tokens, GgufKeys& keys) {
  const SentencePieceFile file =
      SentencePieceFile::parse(text_of(asked.files, "tokenizer.model"), asked.where + " (tokenizer.model)");
  if (!file.byte_pairs) refuse("is a Unigram model", asked.where);
  if (file.maps_characters) refuse("maps characters before it cuts (precompiled_charsmap)", asked.where);
  if (file.removes_extra_blanks) refuse("removes blanks (remove_extra_whitespaces)", asked.where);
  keys.emplace_back("tokenizer.ggml.model", "llama");
  keys.emplace_back("tokenizer.ggml.pre", "default");
  keys.emplace_back("tokenizer.ggml.add_space_prefix", file.blank_in_front);
  for (size_t id = 0; id < file.pieces.size(); ++id) add_piece(file.pieces[id], static_cast<int64_t>(id), tokens);
}

// Adds a token that is matched in the unmodified text.
void add_added(const AddedToken& token, const GgufVocabulary& asked, GgufTokens& tokens) {
  for (const auto& [flag, set] :
       {std::pair("lstrip", token.lstrip), {"rstrip", token.rstrip}, {"single_word", token.single_word}})
    if (set) refuse(fmt::format("has the token {} with {}", token.content, flag), asked.where);
  const bool unknown = token.id < asked.rows && tokens.kind[token.id] == SentencePieceFile::kUnknown;
  tokens.set(token.id, token.content,
             unknown         ? SentencePieceFile::kUnknown
             : token.special ? SentencePieceFile::kControl
                             : SentencePieceFile::kUserDefined);
}

void add_special_ids(const GgufVocabulary& asked, const GgufTokens& tokens, GgufKeys& keys,
                     std::vector<std::string>& notices) {
  const Tokenizer& tokenizer = *asked.tokenizer;
  const TokenConfiguration configuration(TokenFiles::of(asked.files), asked.where);
  const auto named = [&](const char* key) {
    const std::string token = configuration.token(key);
    return token.empty() ? std::nullopt : tokenizer.id_of(token);
  };
  // End tokens; the first one is appended to texts. llama.cpp has keys for three and knows others by name.
  std::vector<int64_t> ends;
  const auto add_end = [&](int64_t id) {
    if (id >= 0 && id < asked.rows && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  if (tokenizer.eos()) add_end(*tokenizer.eos());
  for (const int64_t id : generation_end_tokens(text_of(asked.files, "generation_config.json"), asked.where))
    add_end(id);
  for (const int64_t id : asked.end_tokens) add_end(id);
  if (ends.empty())
    refuse("names no end-of-text token (eos_token), where one of their choice would be taken", asked.where);
  constexpr const char* kPlaces[] = {"eos", "eot", "eom"};
  for (size_t i = 0; i < ends.size(); ++i) {
    if (i < std::size(kPlaces))
      keys.emplace_back(fmt::format("tokenizer.ggml.{}_token_id", kPlaces[i]), static_cast<uint32_t>(ends[i]));
    else
      notices.push_back(fmt::format("the end token {} has no place in a GGUF: generation may go on after it",
                                    tokens.text[static_cast<size_t>(ends[i])]));
  }

  // Which tokens the tokenizer puts around a text.
  const std::vector<uint32_t> bare = tokenizer.encode("a", false), whole = tokenizer.encode("a", true);
  const auto inner = std::search(whole.begin(), whole.end(), bare.begin(), bare.end());
  const auto before = inner - whole.begin(), behind = whole.end() - inner - static_cast<int64_t>(bare.size());
  if (inner == whole.end() || before > 1 || behind > 1 || (behind == 1 && whole.back() != ends.front()))
    refuse("puts more than one token around a text, or another than the end token after it", asked.where);
  const uint32_t begin = before == 1 ? whole.front() : named("bos_token").value_or(static_cast<uint32_t>(ends.front()));
  keys.emplace_back("tokenizer.ggml.bos_token_id", begin);
  keys.emplace_back("tokenizer.ggml.add_bos_token", before == 1);
  keys.emplace_back("tokenizer.ggml.add_eos_token", behind == 1);
  if (const auto pad = named("pad_token")) keys.emplace_back("tokenizer.ggml.padding_token_id", *pad);
  const auto unknown = std::find(tokens.kind.begin(), tokens.kind.end(), SentencePieceFile::kUnknown);
  if (unknown != tokens.kind.end())
    keys.emplace_back("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(unknown - tokens.kind.begin()));
}

void add_chat_templates(const GgufVocabulary& asked, GgufKeys& keys) {
  const Json config = parse_token_configuration(text_of(asked.files, "tokenizer_config.json"), asked.where);
  const Json described = config.value("chat_template", Json());
  std::map<std::string, std::string> templates;
  if (described.is_string()) templates["default"] = described.get<std::string>();
  if (described.is_array())
    for (const Json& entry : described)
      if (entry.is_object() && entry.contains("name") && entry.contains("template") && entry["name"].is_string() &&
          entry["template"].is_string())
        templates[entry["name"].get<std::string>()] = entry["template"].get<std::string>();
  const std::string own = text_of(asked.files, "chat_template.jinja"), tools = text_of(asked.files, kToolTemplate);
  if (!own.empty() || !tools.empty()) templates.clear();
  if (!own.empty()) templates["default"] = own;
  if (!tools.empty()) templates["tool_use"] = tools;
  std::vector<std::string> names;
  for (const auto& [name, text] : templates) {
    if (name != "default") names.push_back(name);
    keys.emplace_back("tokenizer.chat_template" + (name == "default" ? "" : "." + name), text);
  }
  if (!names.empty()) keys.emplace_back("tokenizer.chat_templates", std::move(names));
}

}  // namespace

GgufKeys gguf_tokenizer(const GgufVocabulary& asked, std::vector<std::string>& notices) {
  GgufKeys keys;
  if (asked.tokenizer == nullptr) {
    notices.push_back("the model has no tokenizer: the file takes and gives token ids, not text");
    keys.emplace_back("tokenizer.ggml.model", "none");
    return keys;
  }
  if (asked.tokenizer->vocabulary() > asked.rows)
    fail(ExitCode::kBadInput, "the tokenizer has {} tokens, the embedding {} rows, {}, give the model's own tokenizer",
         asked.tokenizer->vocabulary(), asked.rows, asked.where);
  GgufTokens tokens(asked.rows);
  const std::string description = text_of(asked.files, "tokenizer.json");
  try {
    if (!description.empty()) {
      const Json file = Json::parse(description);
      if (file.at("model").value("byte_fallback", false))
        add_sentence_pieces(file, asked, tokens, keys);
      else
        add_byte_level(file, asked, tokens, keys, notices);
    } else {
      add_sentence_piece_file(asked, tokens, keys);
    }
    for (const AddedToken& token : asked.tokenizer->added_tokens()) add_added(token, asked, tokens);
  } catch (const Json::exception& error) {
    fail(ExitCode::kBadInput, "cannot be read ({}), the tokenizer of {}, fix it", error.what(), asked.where);
  }
  tokens.name_unused();
  add_special_ids(asked, tokens, keys, notices);
  keys.emplace_back("tokenizer.ggml.tokens", std::move(tokens.text));
  if (std::get<std::string>(keys.front().second) == "llama")
    keys.emplace_back("tokenizer.ggml.scores", std::move(tokens.score));
  keys.emplace_back("tokenizer.ggml.token_type", std::move(tokens.kind));
  add_chat_templates(asked, keys);
  return keys;
}

}  // namespace carillon
