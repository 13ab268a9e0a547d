#include "data/document_reader.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/token_file.h"
#include "data/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// A byte order mark is no part of a text.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

DocumentReader::DocumentReader(std::vector<std::string> paths, const DocumentReaderOptions& options)
    : paths_(std::move(paths)), options_(options) {
  for (const std::string& path : paths_) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) fail(ExitCode::kMissingInput, "there is no such file, {}, correct the path", path);
    if (fs::is_directory(status)) fail(ExitCode::kBadInput, "is a folder, {}, name the files in it", path);
    const std::string extension = fs::path(path).extension();
    if (extension != ".jsonl" && extension != ".txt" && extension != ".h5")
      fail(ExitCode::kUsage, "is of no known kind, {}, name it .jsonl, .txt or .h5 by what it holds", path);
    if (fs::is_regular_file(status)) size_ += static_cast<int64_t>(fs::file_size(path, error));
  }
}

DocumentReader::~DocumentReader() = default;

std::string DocumentReader::where() const {
  const std::string& path = paths_[next_path_ - 1];
  return token_file_ ? fmt::format("{}, document {}", path, line_) : fmt::format("{}:{}", path, line_);
}

int64_t DocumentReader::position() const {
  if (!file_.is_open()) return before_;
  const std::streamoff at = const_cast<std::ifstream&>(file_).tellg();
  return before_ + std::max<std::streamoff>(at, 0);
}

bool DocumentReader::open_next() {
  if (file_.is_open()) {
    file_.clear();
    file_.seekg(0, std::ios::end);
    before_ = position();
    file_.close();
  }
  token_file_.reset();
  line_ = 0;
  if (next_path_ == paths_.size()) return false;
  const std::string& path = paths_[next_path_++];
  if (path.ends_with(".h5")) {
    token_file_ = std::make_unique<TokenFile>(path);
    return true;
  }
  file_.open(path, std::ios::binary);
  if (!file_) fail(ExitCode::kInputOutput, "cannot be opened, {}, check its permissions", path);
  return true;
}

bool DocumentReader::next(Document& document) {
  for (;;) {
    document.tokens.clear();
    document.weights.clear();
    if (token_file_ && line_ < token_file_->documents()) {
      token_file_->read(line_++, document.tokens, document.weights);
      check(document);
      return true;
    }
    if (file_.is_open() && !token_file_) {
      const bool text_file = paths_[next_path_ - 1].ends_with(".txt");
      if (text_file && line_ == 0) {
        line_ = 1;
        std::string text(std::istreambuf_iterator<char>(file_), {});
        if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
        encode(text, document);
        check(document);
        return true;
      }
      if (!text_file && std::getline(file_, line_text_)) {
        ++line_;
        if (line_text_.find_first_not_of(" \t\r") == std::string::npos) continue;
        parse_line(line_text_, document);
        check(document);
        return true;
      }
      if (file_.bad()) fail(ExitCode::kInputOutput, "cannot be read to its end, {}, check the disk", where());
    }
    if (!open_next()) return false;
  }
}

void DocumentReader::parse_line(const std::string& line, Document& document) {
  Json json;
  try {
    json = Json::parse(line);
  } catch (const Json::parse_error& error) {
    fail(ExitCode::kBadInput, "is no JSON (at byte {}), {}, write one object a line", error.byte, where());
  }
  if (!json.is_object()) fail(ExitCode::kBadInput, "is no JSON object, {}, write one object a line", where());
  const auto tokens = json.find("tokens"), text = json.find("text"), mask = json.find("loss_mask");
  if (tokens != json.end()) {
    if (!tokens->is_array()) fail(ExitCode::kBadInput, "`tokens` is no list, {}, write integers", where());
    document.tokens.reserve(tokens->size());
    for (const Json& token : *tokens) {
      // Numbers beyond int64 and floats are no ids either.
      if (!token.is_number_integer() || (token.is_number_unsigned() && token.get<uint64_t>() > UINT32_MAX))
        fail(ExitCode::kBadInput, "`tokens` holds {}, {}, write ids from 0 to {}", token.dump(), where(),
             options_.vocabulary - 1);
      const int64_t id = token.get<int64_t>();
      if (id < 0 || id >= options_.vocabulary)
        fail(ExitCode::kBadInput, "token id {} is outside the vocabulary of {}, {}, use this model's tokens", id,
             options_.vocabulary, where());
      document.tokens.push_back(static_cast<uint32_t>(id));
    }
  } else if (text != json.end()) {
    if (!text->is_string()) fail(ExitCode::kBadInput, "`text` is no string, {}, write text", where());
    if (mask != json.end())
      fail(ExitCode::kBadInput, "`loss_mask` goes with `tokens`, not with `text`, {}, write tokens", where());
    encode(text->get_ref<const std::string&>(), document);
  } else {
    fail(ExitCode::kBadInput, "has neither `tokens` nor `text`, {}, add one", where());
  }
  if (mask == json.end()) return;
  if (!mask->is_array() || mask->size() != document.tokens.size())
    fail(ExitCode::kBadInput, "`loss_mask` has {} numbers for {} tokens, {}, write one a token", mask->size(),
         document.tokens.size(), where());
  for (const Json& weight : *mask) {
    const double value = weight.is_number() ? weight.get<double>() : weight.is_boolean() ? weight.get<bool>() : -1.0;
    if (!(value >= 0) || !std::isfinite(value))
      fail(ExitCode::kBadInput, "`loss_mask` holds {}, {}, write weights of 0 or more", weight.dump(), where());
    document.weights.push_back(value);
  }
}

void DocumentReader::encode(const std::string& text, Document& document) const {
  if (options_.tokenizer == nullptr)
    fail(ExitCode::kUsage, "holds text, but the model brings no tokenizer, {}, set data.tokenizer", where());
  if (text.empty()) fail(ExitCode::kBadInput, "the document is empty, {}, remove it", where());
  const size_t bad = first_invalid_utf8(text);
  if (bad != std::string::npos)
    fail(ExitCode::kBadInput, "the text is no UTF-8 from byte {} on, {}, convert it", bad, where());
  document.tokens = options_.tokenizer->encode(text, true);
  if (options_.end_of_document) document.tokens.push_back(*options_.end_of_document);
}

void DocumentReader::check(const Document& document) const {
  if (document.tokens.empty()) fail(ExitCode::kBadInput, "the document is empty, {}, remove it", where());
  for (const uint32_t id : document.tokens)
    if (id >= options_.vocabulary)
      fail(ExitCode::kBadInput, "token id {} is outside the vocabulary of {}, {}, use the model's own tokenizer", id,
           options_.vocabulary, where());
}

}  // namespace carillon
