// All training tokens concatenated and memory-mapped. The data is read, checked and tokenised once into a cache file,
// which all ranks of a node share and later runs find again. Files larger than memory work.
//
// The cache is found by content: its key is a hash of every byte of the data's files, of the tokenizer, and of
// everything else that influences the ids. This costs one read of the files per start and machine, shared by its ranks.
// The cache's own bytes are hashed in blocks. A block is verified when it is first used (2 GB/s on a busy core), so the
// start does not wait for it.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/chat/chat_template.h"
#include "data/files/mapped_file.h"
#include "data/files/same_files.h"
#include "data/tokenizer/tokenizer.h"
#include "parallel/transport/communicator.h"

namespace carillon {

// How conversations are read; the template and the trained part are included in the cache's key.
struct ChatRows {
  const ChatTemplate* chat = nullptr;
  TrainOn train_on = TrainOn::kAssistant;
};

class TokenStore {
 public:
  // `entries` are files, folders and patterns (data_files.h) that must expand to the same files on every rank. The
  // cache lies in $CARILLON_CACHE, else $XDG_CACHE_HOME/carillon, else ~/.cache/carillon, else (if none of them is
  // writable) in `fallback_folder`/.cache. An incomplete cache is rebuilt. `notice` is called with progress, and `warn`
  // (default: `notice`) about token files made with another tokenizer. Collective. Throws what find_data_files,
  // DocumentReader and agree_on_content throw, 65 if a file is written to meanwhile, and 73 if no folder is writable.
  static TokenStore open(Communicator& world, const std::vector<std::string>& entries, const Tokenizer* tokenizer,
                         std::optional<uint32_t> end_of_document, int64_t vocabulary,
                         const std::string& fallback_folder, const std::function<void(const std::string&)>& notice,
                         const ChatRows& chat = {}, std::function<void(const std::string&)> warn = {});

  int64_t documents() const { return static_cast<int64_t>(document_begin_.size()) - 1; }
  int64_t token_count() const { return static_cast<int64_t>(tokens_.size()); }
  // [documents + 1]: where each document starts.
  std::span<const int64_t> document_begin() const { return document_begin_; }
  std::span<const uint32_t> tokens() const { return tokens_; }
  // Weight of each token as a target; empty: all 1.
  std::span<const double> weights() const { return weights_; }
  int64_t targets() const { return targets_; }              // number of targets if no document is cut
  int64_t conversations() const { return conversations_; }  // documents made with a chat template

  // Compares tokens [begin, begin + count) with their hashes, once; must be called before they are used. Error 65; the
  // damaged file is removed, so that the next start rebuilds it. Not thread-safe.
  void verify(int64_t begin, int64_t count) const;
  // The data's files as they were read; empty for a store opened by its path.
  const std::vector<FileContent>& sources() const { return sources_; }

  // Opens an existing cache file. Error 65 if it is incomplete.
  explicit TokenStore(const std::string& path);

 private:
  void verify_bytes(int64_t begin, int64_t end) const;

  MappedFile file_;
  std::span<const uint32_t> tokens_;
  std::span<const double> weights_;
  std::span<const int64_t> document_begin_;
  std::span<const uint64_t> hashes_;  // of the blocks
  uint64_t hash_ = 0;                 // of the header and the block hashes
  int64_t targets_ = 0, conversations_ = 0;
  mutable std::vector<bool> verified_;
  std::vector<FileContent> sources_;
};

class DocumentReader;
// Reads all documents into a new cache file, which appears completely or not at all. `notice` is called with progress
// every few seconds. before_commit is called before the file gets its name; if it throws, no file is left.
void build_token_cache(const std::string& path, DocumentReader& reader,
                       const std::function<void(const std::string&)>& notice,
                       const std::function<void()>& before_commit = {});

}  // namespace carillon
