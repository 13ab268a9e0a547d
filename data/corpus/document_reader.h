// Reads the documents of a list of files in order, one at a time, so that files larger than memory are never held.
// Texts are parsed and tokenised on all processors, one batch ahead of the caller: reading, tokenising and the caller's
// work overlap. Neither the documents nor the first error depend on this.
//   .jsonl  one JSON object per line: `tokens` (integers) with optional `loss_mask` (a weight per token) or `labels`
//           (Hugging Face's: -100 for no target, else the token itself), or `text`, or a conversation
//           (data/chat/chat_template.h)
//   .txt    one document
//   .h5     a token file (data/corpus/token_file.h)
// The first two may be compressed (.jsonl.gz, .txt.zst). data_files.h expands folders and patterns.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/chat/chat_template.h"
#include "data/corpus/data_files.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct Document {
  std::vector<uint32_t> tokens;
  std::vector<double> weights;  // of each token as a target; empty: all 1
  std::vector<uint32_t> bytes;  // source bytes of each token; empty if not requested or if there is no text
  bool is_conversation = false;
  std::string id;    // the row's `id` as JSON; empty if not requested or absent
  int64_t line = 0;  // in its file, from 1; in a token file the number of the document
  size_t file = 0;   // index into the reader's files
};

// Turns text into tokens.
struct TextTools {
  const Tokenizer* tokenizer = nullptr;  // if absent, text is error 64 naming data.tokenizer
  const ChatTemplate* chat = nullptr;    // if absent, conversations are error 64 naming data.chat_template
};

struct DocumentReaderOptions {
  const Tokenizer* tokenizer = nullptr;         // as in TextTools
  std::optional<uint32_t> end_of_document;      // appended to every text
  int64_t vocabulary = 0;                       // all ids are below it
  bool count_bytes = false;                     // whether to fill in Document::bytes
  const ChatTemplate* chat = nullptr;           // as in TextTools
  TrainOn train_on = TrainOn::kAssistant;       // of conversations
  bool prompts = false;                         // rows are prompts to be continued: ChatTemplate::render_prompt
  bool may_be_empty = false;                    // whether files without documents are allowed
  bool keep_ids = false;                        // whether to fill in Document::id
  DataContent unknown = DataContent::kUnknown;  // content of files with other names; kUnknown: such files are refused
  std::function<TextTools()> open_tools;        // replaces tokenizer and chat: called once, at the first text
  std::function<void()> between_batches;        // called while no document is ready; may throw to stop
};

class TokenFile;

class DocumentReader {
 public:
  DocumentReader(std::vector<std::string> paths, const DocumentReaderOptions& options);
  ~DocumentReader();

  // Reads the next document; false at the end of the last file. Errors name file and line: 65 for a line that is not
  // JSON, has neither tokens nor text or is empty, for a file without documents, for an id outside the vocabulary, a
  // mask of the wrong length, a weight that is negative or not finite, or text that is not UTF-8; 66 for a missing
  // file. A damaged compressed file is error 65 too, after the documents before the damage.
  bool next(Document& document);
  // Totals of the documents returned so far.
  int64_t tokens() const { return tokens_; }
  int64_t targets() const { return targets_; }              // a document's first token is never a target
  int64_t conversations() const { return conversations_; }  // documents made with a chat template
  // For progress: bytes of the files, still compressed; read so far (one batch ahead), and in total.
  int64_t position() const { return batch_.position; }
  int64_t size() const { return size_; }

 private:
  // A document in progress, or the error that replaces it.
  struct Item {
    size_t path = 0;
    int64_t line = 0;  // from 1; in a token file the number of the document
    bool of_token_file = false;
    bool is_json = false;
    std::string raw;
    Document document;
    std::exception_ptr error;
  };
  struct Batch {
    std::vector<Item> items;
    int64_t position = 0;
    bool last = false;
  };
  enum class Found { kItem, kNothingYet, kEnd };
  bool open_next();
  Found read_item(Item& item);
  DataKind kind_of(const std::string& path) const;
  const TextTools& tools() const;
  void read_document(Item& item) const;
  Batch make_batch(int64_t bytes);
  void parse_line(Item& item) const;
  void parse_chat(const Item& item, Document& document) const;
  void encode(const std::string& text, const Item& item, Document& document) const;
  void check(const Item& item) const;
  std::string where(const Item& item) const;  // "train.jsonl:17"

  std::vector<std::string> paths_;
  DocumentReaderOptions options_;
  int64_t size_ = 0;
  Batch batch_;  // next() returns its items from `given_` on
  size_t given_ = 0;
  int64_t tokens_ = 0, targets_ = 0, conversations_ = 0;
  int64_t batch_bytes_ = 0;

  // State of the code that makes batches.
  size_t next_path_ = 0;
  std::unique_ptr<UnpackedFile> file_;
  std::unique_ptr<TokenFile> token_file_;
  int64_t line_ = 0;
  bool had_any_ = false;  // in the current file
  int64_t before_ = 0;    // bytes of the files before the current one
  mutable std::once_flag opened_;
  mutable TextTools tools_;
  std::future<Batch> coming_;  // declared last: its task must end before what it uses is destroyed
};

}  // namespace carillon
