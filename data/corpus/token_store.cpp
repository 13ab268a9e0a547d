#include "data/corpus/token_store.h"

#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "data/corpus/document_reader.h"
#include "data/files/output_file.h"
#include "runtime/error.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Little-endian, 64 bytes, then tokens uint32, weights float64 (if any), document_begin int64, each from a multiple
// of 8.
struct Header {
  char magic[8] = {'C', 'A', 'R', 'T', 'O', 'K', '0', '1'};
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t weights = 0;  // tokens or 0
  int64_t file_size = 0;
  int64_t reserved[3] = {};
};
static_assert(sizeof(Header) == 64);

int64_t round_up(int64_t bytes) { return (bytes + 7) / 8 * 8; }

Header header_of(const MappedFile& file) {
  Header header;
  const Header expected;
  if (file.size() >= static_cast<int64_t>(sizeof header)) std::memcpy(&header, file.bytes().data(), sizeof header);
  const int64_t size = 64 + round_up(4 * header.tokens) + 8 * header.weights + 8 * (header.documents + 1);
  if (file.size() < 64 || std::memcmp(header.magic, expected.magic, 8) != 0 || header.file_size != file.size() ||
      header.file_size != size)
    fail(ExitCode::kBadInput, "is no whole token cache, {}, remove it", file.path());
  return header;
}

bool usable(const std::string& path) {
  if (!fs::exists(path)) return false;
  try {
    header_of(MappedFile(path));
    return true;
  } catch (const Error&) {
    return false;  // cut by a full disk or of an older version: made again
  }
}

// The first folder that can be written.
std::string cache_folder(const std::string& fallback) {
  std::vector<std::string> candidates;
  if (const char* own = std::getenv("CARILLON_CACHE")) candidates.emplace_back(own);
  if (const char* xdg = std::getenv("XDG_CACHE_HOME")) candidates.push_back(std::string(xdg) + "/carillon");
  if (const char* home = std::getenv("HOME")) candidates.push_back(std::string(home) + "/.cache/carillon");
  candidates.push_back(fallback + "/.cache");
  for (const std::string& folder : candidates) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (access(folder.c_str(), W_OK | X_OK) == 0) return folder;
  }
  fail(ExitCode::kCannotCreate, "no folder for the token cache can be written, {}, set CARILLON_CACHE",
       candidates.back());
}

std::string key_of(const std::vector<std::string>& paths, const Tokenizer* tokenizer,
                   std::optional<uint32_t> end_of_document, int64_t vocabulary, const ChatRows& chat) {
  std::string text = fmt::format("1 {} {} {}", vocabulary, end_of_document ? int64_t{*end_of_document} : -1,
                                 tokenizer ? tokenizer->hash() : 0);
  // The engine's version: when its texts or masks change, so does this number.
  if (chat.chat != nullptr) text += fmt::format(" chat 1 {} {}", chat.chat->hash(), static_cast<int>(chat.train_on));
  for (const std::string& path : paths) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0)
      fail(ExitCode::kMissingInput, "there is no such file, {}, correct the path", path);
    text += fmt::format("\n{} {} {}.{} {}", fs::absolute(path).string(), static_cast<int64_t>(status.st_size),
                        static_cast<int64_t>(status.st_mtim.tv_sec), static_cast<int64_t>(status.st_mtim.tv_nsec),
                        static_cast<uint64_t>(status.st_ino));
  }
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

// Weights go to a file of their own first, from the first document that has any; the ones before it count 1.
class WeightSpool {
 public:
  explicit WeightSpool(std::string path) : path_(std::move(path)) {}
  ~WeightSpool() {
    if (!path_.empty()) unlink(path_.c_str());
  }
  void add(const Document& document, int64_t tokens_before) {
    if (document.weights.empty() && !file_.is_open()) return;
    if (!file_.is_open()) {
      file_.open(path_, std::ios::binary | std::ios::in | std::ios::out | std::ios::trunc);
      const double one = 1;
      for (int64_t i = 0; i < tokens_before; ++i) put(&one, 1);
    }
    const std::vector<double> ones(document.weights.empty() ? document.tokens.size() : 0, 1.0);
    const std::vector<double>& weights = document.weights.empty() ? ones : document.weights;
    put(weights.data(), weights.size());
  }
  int64_t count() const { return count_; }
  void copy_to(OutputFile& output) {
    file_.seekg(0);
    std::vector<char> block(1 << 20);
    while (file_.read(block.data(), static_cast<std::streamsize>(block.size())), file_.gcount() > 0)
      output.write({block.data(), static_cast<size_t>(file_.gcount())});
  }

 private:
  void put(const double* values, size_t count) {
    file_.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(count * sizeof(double)));
    if (!file_) fail(ExitCode::kInputOutput, "cannot be written, {}, make room or set CARILLON_CACHE", path_);
    count_ += static_cast<int64_t>(count);
  }
  std::string path_;
  std::fstream file_;
  int64_t count_ = 0;
};

std::string_view bytes_of(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

}  // namespace

void build_token_cache(const std::string& path, DocumentReader& reader,
                       const std::function<void(const std::string&)>& notice) {
  OutputFile output(path);
  Header header;
  output.write(bytes_of(&header, sizeof header));
  WeightSpool weights(fmt::format("{}.weights.{}", path, getpid()));
  std::vector<int64_t> begin{0};
  Document document;
  const auto started = std::chrono::steady_clock::now();
  auto spoken = started;
  while (reader.next(document)) {
    stop_point("reading data");
    weights.add(document, header.tokens);
    output.write(bytes_of(document.tokens.data(), 4 * document.tokens.size()));
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
  output.write(padding);
  header.documents = static_cast<int64_t>(begin.size()) - 1;
  header.weights = weights.count();
  if (header.weights > 0) weights.copy_to(output);
  output.write(bytes_of(begin.data(), 8 * begin.size()));
  header.file_size = output.size();
  output.write_at(0, bytes_of(&header, sizeof header));
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
}

TokenStore TokenStore::open(Communicator& world, const std::vector<std::string>& paths, const Tokenizer* tokenizer,
                            std::optional<uint32_t> end_of_document, int64_t vocabulary,
                            const std::string& fallback_folder, const std::function<void(const std::string&)>& notice,
                            const ChatRows& chat) {
  std::string path;
  const auto make = [&] {
    path =
        cache_folder(fallback_folder) + "/" + key_of(paths, tokenizer, end_of_document, vocabulary, chat) + ".tokens";
    if (usable(path)) return;
    DocumentReader reader(paths, {tokenizer, end_of_document, vocabulary, /*count_bytes=*/false, chat.chat, chat.train_on});
    build_token_cache(path, reader, notice);
  };
  // Rank 0 first; ranks of other nodes that do not see its file make their own.
  agree(world, [&] {
    if (world.rank() == 0) make();
  });
  std::optional<TokenStore> store;
  agree(world, [&] {
    if (world.rank() != 0) make();
    store = TokenStore(path);
  });
  return std::move(*store);
}

}  // namespace carillon
