#include "data/corpus/document_reader.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "data/chat/chat_tokens.h"
#include "data/corpus/token_file.h"
#include "data/tokenizer/unicode.h"
#include "runtime/json_lines.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// A byte order mark is not part of a text.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A line may be as long as parse_json.h allows; a text is one document in memory.
constexpr int64_t kLongestLine = JsonLimits{}.bytes, kLongestText = int64_t{4} << 30;
constexpr int64_t kFirstBatchBytes = int64_t{1} << 18, kBatchBytes = int64_t{1} << 23;

// Recognises compressed files without the right name by their first bytes, since they would only look like broken text.
// Returns the program that made the file, or an empty text.
std::string_view hidden_packer_of(const std::string& path) {
  struct Kind {
    std::string_view program, magic;
  };
  constexpr Kind kKinds[] = {{"gzip", "\x1f\x8b"},
                             {"zstd", "\x28\xb5\x2f\xfd"},
                             {"xz", "\xfd\x37zXZ"},
                             {"zip", "PK\x03\x04"},
                             {"lz4", "\x04\x22\x4d\x18"}};
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return {};  // reading would consume a pipe's first bytes
  char head[8] = {};
  std::ifstream file(path, std::ios::binary);
  file.read(head, sizeof head);
  const std::string_view begin(head, static_cast<size_t>(file.gcount()));
  for (const Kind& kind : kKinds)
    if (begin.starts_with(kind.magic)) return kind.program;
  return {};
}

// The program of a compressed format that we do not read, told by the name's ending.
std::string_view foreign_packer_of(const std::string& path) {
  for (const auto& [ending, program] : {std::pair(".bz2", "bzip2"), {".xz", "xz"}, {".zip", "zip"}, {".lz4", "lz4"}})
    if (path.ends_with(ending)) return program;
  return {};
}

// Derives a weight per token from Hugging Face's labels: -100 is no target, every other label repeats the token (the
// model shifts the labels, not the data).
void add_label_weights(const Json& labels, const std::string& place, std::vector<uint32_t>& tokens,
                       std::vector<double>& weights) {
  if (!labels.is_array() || labels.size() != tokens.size())
    fail(ExitCode::kBadInput, "`labels` has {} numbers for {} tokens, {}, write one per token", labels.size(),
         tokens.size(), place);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Json& label = labels[i];
    const bool ignored = label == -100;
    if (!ignored && label != tokens[i])
      fail(ExitCode::kBadInput,
           "`labels` holds {} beside token {} (number {}), {}, write -100 or the token itself: labels are not shifted",
           label.dump(), tokens[i], i, place);
    weights.push_back(ignored ? 0 : 1);
  }
}

// Refuses other fields of pre-tokenised rows that would silently lead to wrong training if they were ignored: masks
// with other names, padding, and several documents in one row.
void refuse_unread_masks(const Json& row, size_t tokens, const std::string& place) {
  const auto present = [&](const char* key) -> const Json* {
    const auto found = row.find(key);
    return found == row.end() || found->is_null() ? nullptr : &*found;
  };
  for (const char* key : {"completion_mask", "assistant_masks", "assistant_mask"})
    if (present(key) != nullptr)
      fail(ExitCode::kBadInput, "has `{}` beside `tokens`, {}, write it as `loss_mask`: 1 for a target, 0 for none",
           key, place);
  const auto first_other = [&](const Json& list, const auto& expected) -> std::optional<size_t> {
    if (!list.is_array()) return size_t{0};
    for (size_t i = 0; i < list.size(); ++i)
      if (!expected(list[i], i)) return i;
    return list.size() == tokens ? std::nullopt : std::optional(list.size());
  };
  if (const Json* mask = present("attention_mask"))
    if (const auto at = first_other(*mask, [](const Json& one, size_t) { return one == 1 || one == true; }))
      fail(ExitCode::kBadInput,
           "`attention_mask` has no 1 for token number {}, {}, leave padding out: every token of a row is read", *at,
           place);
  if (const Json* positions = present("position_ids"))
    if (const auto at = first_other(*positions, [](const Json& one, size_t i) { return one == i; }))
      fail(ExitCode::kBadInput,
           "`position_ids` do not count from 0 at token number {}, {}, write each document as a row of its own", *at,
           place);
}

size_t processors() {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? static_cast<size_t>(CPU_COUNT(&allowed)) : 1;
}

}  // namespace

DocumentReader::DocumentReader(std::vector<std::string> paths, const DocumentReaderOptions& options)
    : paths_(std::move(paths)), options_(options) {
  for (const std::string& path : paths_) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) fail(ExitCode::kMissingInput, "there is no such file, {}, correct the path", path);
    if (fs::is_directory(status)) fail(ExitCode::kBadInput, "is a folder, {}, name the files in it", path);
    const DataKind kind = kind_of(path);
    std::string_view packer = foreign_packer_of(path);
    if (packer.empty() && kind.packer == Packer::kNone) packer = hidden_packer_of(path);
    if (!packer.empty())
      fail(ExitCode::kUsage, "is compressed ({}), {}, {}", packer, path,
           packer == "gzip"   ? "let its name end in .gz"
           : packer == "zstd" ? "let its name end in .zst"
                              : "unpack it, or pack it as .gz or .zst");
    if (kind.content == DataContent::kUnknown)
      fail(ExitCode::kUsage, "is of an unknown kind, {}, name it .jsonl, .txt or .h5 by what it holds", path);
    if (fs::is_regular_file(status)) size_ += static_cast<int64_t>(fs::file_size(path, error));
  }
}

DocumentReader::~DocumentReader() = default;

DataKind DocumentReader::kind_of(const std::string& path) const {
  DataKind kind = data_kind_of(path);
  if (kind.content == DataContent::kUnknown) kind.content = options_.unknown;
  return kind;
}

// Called by several threads.
const TextTools& DocumentReader::tools() const {
  std::call_once(opened_, [&] {
    tools_ = options_.open_tools ? options_.open_tools() : TextTools{options_.tokenizer, options_.chat};
  });
  return tools_;
}

std::string DocumentReader::where(const Item& item) const {
  const std::string& path = paths_[item.path];
  return item.of_token_file ? fmt::format("{}, document {}", path, item.line) : fmt::format("{}:{}", path, item.line);
}

bool DocumentReader::open_next() {
  if (file_) before_ += file_->position();
  file_.reset();
  token_file_.reset();
  line_ = 0;
  if (next_path_ > 0 && !had_any_ && !options_.may_be_empty)
    fail(ExitCode::kBadInput, "holds no document, {}, fill it or leave it out", paths_[next_path_ - 1]);
  had_any_ = false;
  if (next_path_ == paths_.size()) return false;
  const std::string& path = paths_[next_path_++];
  const DataKind kind = kind_of(path);
  if (kind.content == DataContent::kTokens)
    token_file_ = std::make_unique<TokenFile>(path);
  else
    file_ = std::make_unique<UnpackedFile>(path, kind.packer);
  return true;
}

// Reads the next document: the raw bytes, or from a token file the tokens. kNothingYet: a long stretch of blank lines.
DocumentReader::Found DocumentReader::read_item(Item& item) {
  for (int64_t blank = 0;;) {
    item.path = next_path_ == 0 ? 0 : next_path_ - 1;
    item.of_token_file = token_file_ != nullptr;
    if (token_file_ && line_ < token_file_->documents()) {
      had_any_ = true;
      token_file_->read(line_++, item.document.tokens, item.document.weights);
      item.line = line_;
      return Found::kItem;
    }
    if (file_) {
      item.is_json = kind_of(paths_[item.path]).content != DataContent::kText;
      item.line = line_ + 1;
      if (!item.is_json && line_ == 0) {
        line_ = 1;
        had_any_ = true;
        item.raw = file_->rest(kLongestText);
        if (item.raw.starts_with(kByteOrderMark)) item.raw.erase(0, kByteOrderMark.size());
        return Found::kItem;
      }
      if (item.is_json && file_->line(item.raw, kLongestLine)) {
        ++line_;
        if (is_blank(item.raw)) {
          blank += static_cast<int64_t>(item.raw.size()) + 1;
          if (blank > kBatchBytes) return Found::kNothingYet;
          continue;
        }
        had_any_ = true;
        return Found::kItem;
      }
    }
    if (!open_next()) return Found::kEnd;
  }
}

void DocumentReader::read_document(Item& item) const {
  if (item.is_json)
    parse_line(item);
  else if (!item.of_token_file)
    encode(item.raw, item, item.document);
  check(item);
  item.raw = {};
}

// Makes a batch of about `bytes` bytes: the documents are read here, then parsed and tokenised by threads.
DocumentReader::Batch DocumentReader::make_batch(int64_t bytes) {
  Batch batch;
  for (int64_t size = 0; size < bytes;) {
    Item item;
    try {
      const Found found = read_item(item);
      batch.last = found == Found::kEnd;
      if (found != Found::kItem) break;
    } catch (...) {
      item.error = std::current_exception();
      batch.last = true;
    }
    size += static_cast<int64_t>(item.raw.size() + 4 * item.document.tokens.size());
    batch.items.push_back(std::move(item));
    if (batch.last) break;
  }
  batch.position = before_ + (file_ ? file_->position() : 0);
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < batch.items.size();) {
      Item& item = batch.items[i];
      if (item.error) continue;
      try {
        read_document(item);
      } catch (...) {
        item.error = std::current_exception();
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(processors(), batch.items.size()); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return batch;
}

bool DocumentReader::next(Document& document) {
  while (given_ == batch_.items.size()) {
    if (batch_.last) return false;
    // The first batches are small, in case the caller wants only a few documents.
    const auto start = [&] {
      batch_bytes_ = std::clamp(2 * batch_bytes_, kFirstBatchBytes, kBatchBytes);
      coming_ = std::async(std::launch::async, [this, bytes = batch_bytes_] { return make_batch(bytes); });
    };
    if (options_.between_batches) options_.between_batches();
    if (!coming_.valid()) start();
    batch_ = coming_.get();
    given_ = 0;
    if (!batch_.last) start();
  }
  Item& item = batch_.items[given_++];
  if (item.error) std::rethrow_exception(item.error);
  document = std::move(item.document);
  document.line = item.line;
  document.file = item.path;
  tokens_ += static_cast<int64_t>(document.tokens.size());
  targets_ += document.weights.empty()
                  ? static_cast<int64_t>(document.tokens.size()) - 1
                  : std::count_if(document.weights.begin() + 1, document.weights.end(), [](double w) { return w > 0; });
  conversations_ += document.is_conversation;
  return true;
}

void DocumentReader::parse_line(Item& item) const {
  const auto here = [&] { return where(item); };
  Document& document = item.document;
  const Json json = parse_json_object(item.raw, here(), "write one object per line");
  if (options_.keep_ids && json.contains("id"))
    document.id = json["id"].dump(-1, ' ', false, Json::error_handler_t::replace);
  // A table's columns are there in every row, null where a row has none.
  const auto column = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_null() ? json.end() : found;
  };
  const auto tokens = column("tokens"), text = column("text"), mask = column("loss_mask");
  if (tokens != json.end()) {
    if (!tokens->is_array()) fail(ExitCode::kBadInput, "`tokens` is not a list, {}, write integers", here());
    refuse_unread_masks(json, tokens->size(), here());
    document.tokens.reserve(tokens->size());
    for (const Json& token : *tokens) {
      const std::optional<int64_t> id = integer_of(token);
      if (!id || *id > int64_t{UINT32_MAX})
        fail(ExitCode::kBadInput, "`tokens` holds {}, {}, write ids from 0 to {}", token.dump(), here(),
             options_.vocabulary - 1);
      if (*id < 0 || *id >= options_.vocabulary)
        fail(ExitCode::kBadInput, "token id {} is outside the vocabulary of {}, {}, use this model's tokens", *id,
             options_.vocabulary, here());
      document.tokens.push_back(static_cast<uint32_t>(*id));
    }
  } else if (text != json.end()) {
    if (!text->is_string()) fail(ExitCode::kBadInput, "`text` is not a string, {}, write text", here());
    if (mask != json.end())
      fail(ExitCode::kBadInput, "`loss_mask` can be used with `tokens`, not with `text`, {}, write tokens", here());
    encode(text->get_ref<const std::string&>(), item, document);
  } else if (const auto present = [&](const char* key) { return json.contains(key) && !json[key].is_null(); };
             ChatTemplate::has_chat_keys(present) || (options_.prompts && present("prompt"))) {
    if (mask != json.end())
      fail(ExitCode::kBadInput, "`loss_mask` can be used with `tokens`, not with a conversation, {}, write tokens",
           here());
    parse_chat(item, document);
  } else {
    fail(ExitCode::kBadInput, "has neither `tokens` nor `text` nor `messages`, {}, {}", here(),
         present("input_ids") ? "rename `input_ids` to `tokens`" : "add one");
  }
  if (const auto labels = column("labels"); labels != json.end()) {
    if (mask != json.end()) fail(ExitCode::kBadInput, "has `labels` and `loss_mask`, {}, keep one of them", here());
    if (tokens == json.end())
      fail(ExitCode::kBadInput, "`labels` can be used with `tokens`, not with `text`, {}, write tokens", here());
    add_label_weights(*labels, here(), document.tokens, document.weights);
    return;
  }
  if (mask == json.end()) return;
  if (!mask->is_array() || mask->size() != document.tokens.size())
    fail(ExitCode::kBadInput, "`loss_mask` has {} numbers for {} tokens, {}, write one per token", mask->size(),
         document.tokens.size(), here());
  for (const Json& weight : *mask) {
    const double value = weight.is_number() ? weight.get<double>() : weight.is_boolean() ? weight.get<bool>() : -1.0;
    if (!(value >= 0) || !std::isfinite(value))
      fail(ExitCode::kBadInput, "`loss_mask` holds {}, {}, write weights of 0 or more", weight.dump(), here());
    document.weights.push_back(value);
  }
}

void DocumentReader::parse_chat(const Item& item, Document& document) const {
  const std::string here = where(item);
  if (tools().tokenizer == nullptr)
    fail(ExitCode::kUsage,
         "holds a conversation, but there is no tokenizer, {}, name one: data.tokenizer, or a command's own "
         "tokenizer",
         here);
  if (tools().chat == nullptr)
    fail(ExitCode::kUsage,
         "holds a conversation, but there is no chat template, {}, name one: data.chat_template, or a command's own "
         "chat_template",
         here);
  const ChatTemplate& chat = *tools().chat;
  ChatTokens made = tokenize_chat(
      options_.prompts ? chat.render_prompt(item.raw, here) : chat.render(item.raw, options_.train_on, here),
      *tools().tokenizer, options_.end_of_document, here);
  document.tokens = std::move(made.tokens);
  document.weights = std::move(made.weights);
  document.is_conversation = true;
}

void DocumentReader::encode(const std::string& text, const Item& item, Document& document) const {
  if (tools().tokenizer == nullptr)
    fail(ExitCode::kUsage,
         "holds text, but there is no tokenizer, {}, name one: data.tokenizer, or a command's own tokenizer",
         where(item));
  if (text.empty()) fail(ExitCode::kBadInput, "the document is empty, {}, remove it", where(item));
  const size_t bad = first_invalid_utf8(text);
  if (bad != std::string::npos)
    fail(ExitCode::kBadInput, "the text is not valid UTF-8 from byte {} on, {}, convert it", bad, where(item));
  std::vector<size_t> ends;
  document.tokens = tools().tokenizer->encode(text, true, options_.count_bytes ? &ends : nullptr);
  for (size_t i = 0; i < ends.size(); ++i)
    document.bytes.push_back(static_cast<uint32_t>(ends[i] - (i > 0 ? ends[i - 1] : 0)));
  if (options_.end_of_document) document.tokens.push_back(*options_.end_of_document);
  if (options_.count_bytes) document.bytes.resize(document.tokens.size());
}

void DocumentReader::check(const Item& item) const {
  const Document& document = item.document;
  if (document.tokens.empty()) fail(ExitCode::kBadInput, "the document is empty, {}, remove it", where(item));
  for (const uint32_t id : document.tokens)
    if (id >= options_.vocabulary)
      fail(ExitCode::kBadInput, "token id {} is outside the vocabulary of {}, {}, use the model's own tokenizer", id,
           options_.vocabulary, where(item));
}

}  // namespace carillon
