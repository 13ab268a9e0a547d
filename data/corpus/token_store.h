// All training tokens concatenated, memory-mapped: read, checked and tokenised once into a cache file that all
// ranks of a node share and later runs find again. Files larger than memory work.
//
// The cache is found by content: the hash of every byte of the data's files, of the tokenizer, and of what else decides
// about ids. That costs one read of the files a start and machine, shared by its ranks. The cache's own bytes are
// hashed in blocks; a block is verified when it is first used (2 GB/s on a busy core), so a start does not wait for it.
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

// How conversations are read; the cache knows by which template and what of them is trained.
struct ChatRows {
  const ChatTemplate* chat = nullptr;
  TrainOn train_on = TrainOn::kAssistant;
};

class TokenStore {
 public:
  // entries: files, folders and patterns (data_files.h), which stand for the same files on every rank.
  // The cache lies in $CARILLON_CACHE, else $XDG_CACHE_HOME/carillon, else ~/.cache/carillon, else (none of them
  // writable) in `fallback_folder`/.cache. A cache that is not whole is made again. `notice` is called with progress,
  // `warn` (the same where it is left out) of token files that another tokenizer made. Collective; errors as
  // find_data_files', DocumentReader's and agree_on_content's, 65 for a file that is written to meanwhile, and 73 when
  // no folder is writable.
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
  int64_t targets() const { return targets_; }              // tokens that are targets where no document is cut
  int64_t conversations() const { return conversations_; }  // documents that came by a chat template

  // Compares tokens [begin, begin + count) with their hashes, once; to be called before they are used. Error 65; the
  // damaged file is removed, so that the next start makes it again. One thread at a time.
  void verify(int64_t begin, int64_t count) const;
  // The data's files as they were read; nothing in a store that was opened by its path.
  const std::vector<FileContent>& sources() const { return sources_; }

  // A cache file that was built before. Error 65 when it is not whole.
  explicit TokenStore(const std::string& path);

 private:
  void verify_bytes(int64_t begin, int64_t end) const;

  MappedFile file_;
  std::span<const uint32_t> tokens_;
  std::span<const double> weights_;
  std::span<const int64_t> document_begin_;
  std::span<const uint64_t> hashes_;  // of the blocks
  uint64_t hash_ = 0;                 // of the header and of these
  int64_t targets_ = 0, conversations_ = 0;
  mutable std::vector<bool> verified_;
  std::vector<FileContent> sources_;
};

class DocumentReader;
// Reads all documents into a new cache file, whole or not at all; `notice` is called with progress every few seconds.
// before_it_stands: may throw, and then it does not.
void build_token_cache(const std::string& path, DocumentReader& reader,
                       const std::function<void(const std::string&)>& notice,
                       const std::function<void()>& before_it_stands = {});

}  // namespace carillon
