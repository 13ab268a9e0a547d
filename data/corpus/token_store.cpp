#include "data/corpus/token_store.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "data/corpus/document_reader.h"
#include "data/corpus/token_file.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "data/files/temporaries.h"
#include "runtime/error.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Little-endian, 64 bytes, followed by tokens uint32, weights float64 (if any) and document_begin int64, each aligned
// to 8 bytes, and then the hashes: one uint64 XXH3 per block of kBlock bytes of everything between header and hashes.
struct Header {
  char magic[8] = {'C', 'A', 'R', 'T', 'O', 'K', '0', '3'};
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t weights = 0;  // tokens or 0
  int64_t file_size = 0;
  int64_t targets = 0;
  int64_t conversations = 0;
  uint64_t hash = 0;  // of the header with 0 here, and of the block hashes
};
static_assert(sizeof(Header) == 64);
constexpr int64_t kBlock = int64_t{256} << 10;

int64_t round_up(int64_t bytes) { return (bytes + 7) / 8 * 8; }

// Bytes between header and hashes.
int64_t body_of(const Header& header) {
  return round_up(4 * header.tokens) + 8 * header.weights + 8 * (header.documents + 1);
}
int64_t blocks_of(int64_t body) { return (body + kBlock - 1) / kBlock; }

uint64_t hash_of(Header header, const void* hashes, int64_t blocks) {
  header.hash = 0;
  return XXH3_64bits_withSeed(hashes, 8 * static_cast<size_t>(blocks), XXH3_64bits(&header, sizeof header));
}

Header header_of(const MappedFile& file) {
  Header header;
  const Header expected;
  const int64_t most = file.size();
  if (most >= static_cast<int64_t>(sizeof header)) std::memcpy(&header, file.bytes().data(), sizeof header);
  const auto within = [&](int64_t count) { return 0 <= count && count <= most; };
  bool good = most >= 64 && std::memcmp(header.magic, expected.magic, 8) == 0 && header.file_size == most &&
              within(header.tokens) && within(header.documents) &&
              (header.weights == 0 || header.weights == header.tokens);
  if (good) {
    const int64_t body = body_of(header), blocks = blocks_of(body);
    good = most == 64 + body + 8 * blocks && header.hash == hash_of(header, file.bytes().data() + 64 + body, blocks);
  }
  if (!good) fail(ExitCode::kBadInput, "is not a whole token cache, {}, remove it", file.path());
  return header;
}

bool usable(const std::string& path, const std::function<void(const std::string&)>& notice) {
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  try {
    (void)TokenStore(path);
    return true;
  } catch (const Error& problem) {
    if (problem.code() != ExitCode::kBadInput) throw;
    notice(fmt::format("the token cache is made again: {}", problem.what()));
    return false;
  }
}

// Removes what killed builders left; a running one writes every few seconds.
void remove_leftovers(const std::string& folder) {
  std::error_code error;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().filename().string().find(".tmp-") == std::string::npos) continue;
    const auto written = fs::last_write_time(entry->path(), ignored);
    if (!ignored && now - written > std::chrono::hours(24)) fs::remove(entry->path(), ignored);
  }
}

// The first writable folder of those that the environment names, and the one for a cache that it has no room for.
struct CacheFolders {
  std::string first, fallback;
};
CacheFolders cache_folders(const std::string& fallback) {
  std::vector<std::string> candidates;
  if (const char* own = std::getenv("CARILLON_CACHE")) candidates.emplace_back(own);
  if (const char* xdg = std::getenv("XDG_CACHE_HOME")) candidates.push_back(std::string(xdg) + "/carillon");
  if (const char* home = std::getenv("HOME")) candidates.push_back(std::string(home) + "/.cache/carillon");
  candidates.push_back(fallback + "/.cache");
  for (const std::string& folder : candidates) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (access(folder.c_str(), W_OK | X_OK) == 0) return {folder, candidates.back()};
  }
  fail(ExitCode::kCannotCreate, "no folder for the token cache can be written, {}, set CARILLON_CACHE",
       candidates.back());
}

// Two lists of files with the same key give the same ids. File names do not matter, only the kinds they imply.
std::string key_of(const std::vector<FileContent>& files, const Tokenizer* tokenizer,
                   std::optional<uint32_t> end_of_document, int64_t vocabulary, const ChatRows& chat) {
  std::string text = fmt::format("3 {} {} {}", vocabulary, end_of_document ? int64_t{*end_of_document} : -1,
                                 tokenizer ? tokenizer->hash() : 0);
  // The engine's version; must be increased when its texts or masks change.
  if (chat.chat != nullptr) text += fmt::format(" chat 1 {} {}", chat.chat->hash(), static_cast<int>(chat.train_on));
  for (const FileContent& file : files) {
    const DataKind kind = data_kind_of(file.path);
    text += fmt::format("\n{} {} {} {}", static_cast<int>(kind.content), name_of(kind.packer), file.size, file.hash);
  }
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

// Collects weights in a separate file, beginning with the first document that has any; the documents before it get
// weight 1.
class WeightSpool {
 public:
  explicit WeightSpool(std::string cache) : cache_(std::move(cache)) {}
  ~WeightSpool() {
    if (path_.empty()) return;
    unlink(path_.c_str());
    forget_temporary(path_);
  }
  void add(const Document& document, int64_t tokens_before) {
    if (document.weights.empty() && !file_.is_open()) return;
    if (!file_.is_open()) {
      path_ = make_temporary(cache_ + ".weights");
      file_.open(path_, std::ios::binary | std::ios::in | std::ios::out | std::ios::trunc);
      const double one = 1;
      for (int64_t i = 0; i < tokens_before; ++i) put(&one, 1);
    }
    const std::vector<double> ones(document.weights.empty() ? document.tokens.size() : 0, 1.0);
    const std::vector<double>& weights = document.weights.empty() ? ones : document.weights;
    put(weights.data(), weights.size());
  }
  int64_t count() const { return count_; }
  template <class Write>
  void copy_to(Write write) {
    file_.seekg(0);
    std::vector<char> block(1 << 20);
    int64_t bytes = 0;
    while (file_.read(block.data(), static_cast<std::streamsize>(block.size())), file_.gcount() > 0) {
      write(std::string_view(block.data(), static_cast<size_t>(file_.gcount())));
      bytes += file_.gcount();
    }
    if (bytes != 8 * count_) fail(ExitCode::kInputOutput, "cannot be read back, {}, check the disk", path_);
  }

 private:
  void put(const double* values, size_t count) {
    file_.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(count * sizeof(double)));
    if (!file_) fail(ExitCode::kInputOutput, "cannot be written, {}, make room or set CARILLON_CACHE", path_);
    count_ += static_cast<int64_t>(count);
  }
  std::string cache_, path_;
  std::fstream file_;
  int64_t count_ = 0;
};

// Writes the body of a cache to the file and hashes it block by block.
class HashedBody {
 public:
  explicit HashedBody(OutputFile& output) : output_(output), state_(XXH3_createState()) { XXH3_64bits_reset(state_); }
  ~HashedBody() { XXH3_freeState(state_); }
  HashedBody(const HashedBody&) = delete;
  void write(std::string_view bytes) {
    output_.write(bytes);
    while (!bytes.empty()) {
      const auto part = bytes.substr(0, static_cast<size_t>(kBlock - filled_));
      XXH3_64bits_update(state_, part.data(), part.size());
      filled_ += static_cast<int64_t>(part.size());
      bytes.remove_prefix(part.size());
      if (filled_ == kBlock) end_block();
    }
  }
  const std::vector<uint64_t>& hashes() {
    if (filled_ > 0) end_block();
    return hashes_;
  }

 private:
  void end_block() {
    hashes_.push_back(XXH3_64bits_digest(state_));
    XXH3_64bits_reset(state_);
    filled_ = 0;
  }
  OutputFile& output_;
  XXH3_state_t* state_;
  int64_t filled_ = 0;
  std::vector<uint64_t> hashes_;
};

std::string_view bytes_of(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

}  // namespace

void build_token_cache(const std::string& path, DocumentReader& reader,
                       const std::function<void(const std::string&)>& notice,
                       const std::function<void()>& before_commit) {
  // Anything but a regular file, such as a pipe, would be written into instead of replaced.
  std::error_code error;
  const auto there = std::filesystem::status(path, error);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) std::filesystem::remove(path, error);
  OutputFile output(path);
  Header header;
  output.write(bytes_of(&header, sizeof header));
  HashedBody body(output);
  WeightSpool weights(path);
  std::vector<int64_t> begin{0};
  Document document;
  const auto started = std::chrono::steady_clock::now();
  auto spoken = started;
  while (reader.next(document)) {
    throw_if_stop_requested("reading data");
    weights.add(document, header.tokens);
    body.write(bytes_of(document.tokens.data(), 4 * document.tokens.size()));
    header.tokens += static_cast<int64_t>(document.tokens.size());
    begin.push_back(header.tokens);
    const auto now = std::chrono::steady_clock::now();
    if (now - spoken > std::chrono::seconds(5)) {
      spoken = now;
      notice(fmt::format(
          "reading data: {} documents, {} tokens, {:.0f} %", begin.size() - 1, header.tokens,
          100.0 * static_cast<double>(reader.position()) / static_cast<double>(std::max<int64_t>(reader.size(), 1))));
    }
  }
  if (begin.size() == 1)
    fail(ExitCode::kBadInput, "there is no document in the data, {}, name a file with some", "data.train");
  const std::string padding(static_cast<size_t>(round_up(4 * header.tokens) - 4 * header.tokens), '\0');
  body.write(padding);
  header.documents = static_cast<int64_t>(begin.size()) - 1;
  header.weights = weights.count();
  header.targets = reader.targets();
  header.conversations = reader.conversations();
  if (header.weights > 0) weights.copy_to([&](std::string_view bytes) { body.write(bytes); });
  body.write(bytes_of(begin.data(), 8 * begin.size()));
  const std::vector<uint64_t>& hashes = body.hashes();
  output.write(bytes_of(hashes.data(), 8 * hashes.size()));
  header.file_size = output.size();
  header.hash = hash_of(header, hashes.data(), static_cast<int64_t>(hashes.size()));
  output.write_at(0, bytes_of(&header, sizeof header));
  if (before_commit) before_commit();
  output.commit();
}

TokenStore::TokenStore(const std::string& path) : file_(path) {
  const Header header = header_of(file_);
  const std::byte* at = file_.bytes().data() + sizeof header;
  tokens_ = {reinterpret_cast<const uint32_t*>(at), static_cast<size_t>(header.tokens)};
  at += round_up(4 * header.tokens);
  weights_ = {reinterpret_cast<const double*>(at), static_cast<size_t>(header.weights)};
  at += 8 * header.weights;
  document_begin_ = {reinterpret_cast<const int64_t*>(at), static_cast<size_t>(header.documents + 1)};
  at += 8 * (header.documents + 1);
  const int64_t body = body_of(header);
  hashes_ = {reinterpret_cast<const uint64_t*>(at), static_cast<size_t>(blocks_of(body))};
  hash_ = header.hash;
  targets_ = header.targets;
  conversations_ = header.conversations;
  verified_.resize(hashes_.size());
  verify_bytes(body - 8 * (header.documents + 1), body);  // packing reads all of document_begin at once
}

// Verifies the blocks that contain bytes [begin, end) of the body.
void TokenStore::verify_bytes(int64_t begin, int64_t end) const {
  const int64_t body = static_cast<int64_t>(reinterpret_cast<const std::byte*>(hashes_.data()) - file_.bytes().data()) -
                       static_cast<int64_t>(sizeof(Header));
  for (int64_t block = begin / kBlock; block * kBlock < end; ++block) {
    const auto number = static_cast<size_t>(block);
    if (verified_[number]) continue;
    const std::byte* data = file_.bytes().data() + sizeof(Header) + block * kBlock;
    count_progress();
    if (XXH3_64bits(data, static_cast<size_t>(std::min(kBlock, body - block * kBlock))) != hashes_[number]) {
      unlink(file_.path().c_str());
      fail(ExitCode::kBadInput,
           "bytes {} to {} of the token cache do not match their hash, {}, it is removed: start again, which makes it "
           "anew",
           64 + block * kBlock, 64 + std::min(body, (block + 1) * kBlock) - 1, file_.path());
    }
    verified_[number] = true;
  }
}

void TokenStore::verify(int64_t begin, int64_t count) const {
  if (count <= 0) return;
  verify_bytes(4 * begin, 4 * (begin + count));
  if (weights_.empty()) return;
  const int64_t before = round_up(4 * token_count());
  verify_bytes(before + 8 * begin, before + 8 * (begin + count));
}

TokenStore TokenStore::open(Communicator& world, const std::vector<std::string>& entries, const Tokenizer* tokenizer,
                            std::optional<uint32_t> end_of_document, int64_t vocabulary,
                            const std::string& fallback_folder, const std::function<void(const std::string&)>& notice,
                            const ChatRows& chat, std::function<void(const std::string&)> warn) {
  if (!warn) warn = notice;
  DocumentReaderOptions options{tokenizer, end_of_document, vocabulary, /*count_bytes=*/false,
                                chat.chat, chat.train_on};
  options.between_batches = [] { throw_if_stop_requested("reading data"); };
  std::vector<std::string> paths;
  agree(world, [&] {
    DataFiles files = find_data_files(entries);
    paths = std::move(files.paths);
    DocumentReader(paths, options);  // reports errors that are visible without reading the files
    for (const std::string& line : files.notices) notice(line);
  });
  require_same_text(world, fmt::format("the files of {}", fmt::join(entries, ", ")),
                    fmt::format("{}", fmt::join(paths, "\n")));
  const std::vector<FileContent> sources = agree_on_content(world, paths);
  const std::string key = key_of(sources, tokenizer, end_of_document, vocabulary, chat);
  const std::vector<int> machines = machines_of_ranks(world);
  std::string path;
  const auto make = [&] {
    const auto make_in = [&](const std::string& folder) {
      path = folder + "/" + key + ".tokens";
      if (usable(path, warn)) return;
      std::error_code error;
      fs::create_directories(folder, error);
      remove_leftovers(folder);
      DocumentReader reader(paths, options);
      build_token_cache(path, reader, notice, [&] {
        for (const FileContent& file : sources) require_unchanged(file);
      });
    };
    const CacheFolders folders = cache_folders(fallback_folder);
    try {
      make_in(folders.first);
    } catch (const Error& error) {
      // A home with a quota is full long before the disk that the run writes to.
      const bool of_disk = error.code() == ExitCode::kInputOutput || error.code() == ExitCode::kCannotCreate;
      if (!of_disk || folders.first == folders.fallback) throw;
      warn(fmt::format("the token cache goes to {}, because: {} (CARILLON_CACHE names another folder)",
                       folders.fallback, error.what()));
      make_in(folders.fallback);
    }
  };
  // Rank 0 builds first, then one rank of each machine if it does not see rank 0's file, then every rank that sees
  // neither.
  const int first_here = static_cast<int>(
      std::find(machines.begin(), machines.end(), machines[static_cast<size_t>(world.rank())]) - machines.begin());
  agree(world, [&] {
    if (world.rank() == 0) make();
  });
  agree(world, [&] {
    if (world.rank() != 0 && world.rank() == first_here) make();
  });
  std::optional<TokenStore> store;
  agree(world, [&] {
    if (world.rank() != first_here) make();
    store = TokenStore(path);
    store->sources_ = sources;
    for (const std::string& file : paths) {
      if (!file.ends_with(".h5") || tokenizer == nullptr) continue;
      const auto theirs = TokenFile(file).tokenizer_hash();
      if (theirs && *theirs != tokenizer_hash_text(*tokenizer))
        warn(
            fmt::format("{} was made by another tokenizer (hash {}) than the model's ({}, hash {}): its ids may mean "
                        "other tokens",
                        file, *theirs, tokenizer->path(), tokenizer_hash_text(*tokenizer)));
    }
  });
  require_same_text(world, "the tokens made of " + fmt::format("{}", fmt::join(paths, ", ")),
                    fmt::format("{:016x}", store->hash_));
  return std::move(*store);
}

}  // namespace carillon
