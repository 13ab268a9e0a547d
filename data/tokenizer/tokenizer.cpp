#include "data/tokenizer/tokenizer.h"

#include <xxhash.h>

#include <filesystem>

#include "data/formats/hugging_face_folder.h"
#include "data/tokenizer/hugging_face_tokenizer.h"
#include "data/tokenizer/sentence_piece.h"
#include "data/tokenizer/token_configuration.h"
#include "runtime/error.h"
#include "runtime/foreign_error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code error;  // a path that is too long or in an unreadable folder counts as missing
  return fs::exists(path, error);
}

std::string text_if_there(const fs::path& path) { return is_there(path) ? read_whole_file(path.string()) : ""; }

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_json(const std::string& where, const std::string& tokenizer_json,
                                                const std::string& tokenizer_config_json) {
  auto tokenizer =
      std::make_unique<HuggingFaceTokenizer>(where, tokenizer_json, TokenFiles{tokenizer_config_json, "", ""});
  EndTokenSearch search(*tokenizer);
  search.look_at_tokens("tokenizer_config.json", tokenizer_config_json, where + " (tokenizer_config.json)");
  tokenizer->eos_ = search.found();
  tokenizer->end_search_ = search.looked_at();
  return tokenizer;
}

std::unique_ptr<Tokenizer> Tokenizer::open(const std::string& path) {
  const WorkingOn here(path);
  fs::path file(path);
  std::error_code error;
  if (fs::is_directory(file, error)) {
    if (is_there(file / "tokenizer.json"))
      file /= "tokenizer.json";
    else if (is_there(file / "tokenizer.model"))
      file /= "tokenizer.model";
    else
      fail(ExitCode::kMissingInput, "there is neither tokenizer.json nor tokenizer.model, {}, correct the path", path);
  }
  const std::string text = read_whole_file(file.string());
  const auto beside = [&](const char* name) { return text_if_there(file.parent_path() / name); };
  const TokenFiles files{beside("tokenizer_config.json"), beside("special_tokens_map.json"),
                         beside("added_tokens.json")};
  std::unique_ptr<Tokenizer> tokenizer;
  if (file.extension() == ".model") {
    tokenizer = std::make_unique<SentencePieceTokenizer>(file.string(), text, files);
    tokenizer->path_ = file.string();
    tokenizer->hash_ = XXH3_64bits(text.data(), text.size());
    const std::string more = files.tokenizer_config + files.special_tokens_map + files.added_tokens;
    if (!more.empty()) tokenizer->hash_ ^= XXH3_64bits(more.data(), more.size());
  } else {
    tokenizer = std::make_unique<HuggingFaceTokenizer>(file.string(), text, files);
  }
  const auto where = [&](const char* name) { return (file.parent_path() / name).string(); };
  EndTokenSearch search(*tokenizer);
  const auto look_at_map = [&] {
    search.look_at_tokens("special_tokens_map.json", files.special_tokens_map, where("special_tokens_map.json"));
  };
  const bool complete = TokenConfiguration(files, file.string()).is_complete();
  if (!complete) look_at_map();
  search.look_at_tokens("tokenizer_config.json", files.tokenizer_config, where("tokenizer_config.json"));
  if (complete) look_at_map();
  if (!search.found() && !tokenizer->eos_) {
    search.look_at_ids("config.json", beside("config.json"), where("config.json"));
    search.look_at_ids("generation_config.json", beside("generation_config.json"), where("generation_config.json"));
  }
  if (search.found()) tokenizer->eos_ = search.found();
  tokenizer->end_search_ = search.looked_at();
  return tokenizer;
}

}  // namespace carillon
