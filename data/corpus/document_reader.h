// Documents of a list of files, in order, one at a time: files larger than memory are never held. Texts are parsed and
// tokenised on all processors, a batch ahead of the caller, so that reading, tokenising and what is done with the
// tokens overlap; which documents come, and which error first, does not depend on it.
//   .jsonl  a JSON object a line: `tokens` (integers), optional `loss_mask` (a weight a token) or `labels` (Hugging
//           Face's: -100 is no target, else the token itself), `text`, or a
//           conversation (data/chat/chat_template.h)
//   .txt    one document
//   .h5     a token file (data/corpus/token_file.h)
// The first two also packed (.jsonl.gz, .txt.zst); folders and patterns are data_files.h's.
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
  std::vector<uint32_t> bytes;  // of the source, of each token; empty where not asked for or where there is no text
  bool is_conversation = false;
  std::string id;    // a row's `id` as JSON; empty where not asked for or where it has none
  int64_t line = 0;  // in its file, from 1; of a token file the document
  size_t file = 0;   // which of the reader's
};

// What turns text into tokens.
struct TextTools {
  const Tokenizer* tokenizer = nullptr;  // may be absent: text is then error 64 naming data.tokenizer
  const ChatTemplate* chat = nullptr;    // may be absent: conversations are then error 64 naming data.chat_template
};

struct DocumentReaderOptions {
  const Tokenizer* tokenizer = nullptr;         // as TextTools'
  std::optional<uint32_t> end_of_document;      // put after every text
  int64_t vocabulary = 0;                       // ids are below it
  bool count_bytes = false;                     // whether documents of text tell their tokens' bytes
  const ChatTemplate* chat = nullptr;           // as TextTools'
  TrainOn train_on = TrainOn::kAssistant;       // of conversations
  bool prompts = false;                         // rows are to be gone on from: ChatTemplate::render_prompt
  bool may_be_empty = false;                    // whether a file without any document is fine
  bool keep_ids = false;                        // whether documents tell their rows' `id`
  DataContent unknown = DataContent::kUnknown;  // what a file of another name holds; kUnknown: such a file is refused
  std::function<TextTools()> open_tools;        // in place of tokenizer and chat: called once, at the first text
  std::function<void()> between_batches;        // called while there is no document to give: may throw to stop
};

class TokenFile;

class DocumentReader {
 public:
  DocumentReader(std::vector<std::string> paths, const DocumentReaderOptions& options);
  ~DocumentReader();

  // The next document; false at the end of the last file. Errors name file and line: 65 for what is not JSON, holds
  // neither tokens nor text, is empty, is a file without any document, has an id outside the vocabulary, a mask of
  // another length or a weight that is negative or not finite, or text that is not UTF-8; 66 for a file that is not
  // there. A packed file that is damaged is 65 as well, after the documents before the damage.
  bool next(Document& document);
  // Of the documents given so far: their tokens, and those of them that are targets.
  int64_t tokens() const { return tokens_; }
  int64_t targets() const { return targets_; }              // a document's first token never is one
  int64_t conversations() const { return conversations_; }  // documents that came by a chat template
  // Bytes of the files, packed as they are: read (a batch ahead) and to read, for progress.
  int64_t position() const { return batch_.position; }
  int64_t size() const { return size_; }

 private:
  // A document on its way, or why there is none.
  struct Item {
    size_t path = 0;
    int64_t line = 0;  // from 1; of a token file the document
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
  Batch batch_;  // what next() gives, from `given_` on
  size_t given_ = 0;
  int64_t tokens_ = 0, targets_ = 0, conversations_ = 0;
  int64_t batch_bytes_ = 0;

  // Of the code that makes a batch.
  size_t next_path_ = 0;
  std::unique_ptr<UnpackedFile> file_;
  std::unique_ptr<TokenFile> token_file_;
  int64_t line_ = 0;
  bool had_any_ = false;  // of the present file
  int64_t before_ = 0;    // bytes of the files before the present one
  mutable std::once_flag opened_;
  mutable TextTools tools_;
  std::future<Batch> coming_;  // last: it ends before what it uses
};

}  // namespace carillon
