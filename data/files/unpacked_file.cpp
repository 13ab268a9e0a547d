#include "data/files/unpacked_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/check.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr size_t kBlock = size_t{1} << 20;

}  // namespace

// Performs one step of unpacking at a time. Each step consumes input, produces output or ends a stream.
class UnpackedFile::Unpacker {
 public:
  struct Step {
    size_t taken = 0, made = 0;
    bool ended = false;      // a member or frame is complete
    std::string_view wrong;  // why the stream cannot be unpacked; empty if it can
  };
  virtual ~Unpacker() = default;
  virtual Step step(std::string_view packed, char* plain, size_t room) = 0;
  // Whether a byte after a complete member or frame is only padding: tapes leave zeros there.
  virtual bool is_padding(char) const { return false; }
};

struct UnpackedFile::Gzip : Unpacker {
  Gzip() {
    CHECK(inflateInit2(&stream, 15 + 16) == Z_OK, "zlib of another version than its header");  // 16: only gzip framing
  }
  ~Gzip() override { inflateEnd(&stream); }

  Step step(std::string_view packed, char* plain, size_t room) override {
    if (is_whole) inflateReset(&stream);
    is_whole = false;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(plain);
    stream.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream, Z_NO_FLUSH);
    Step step{packed.size() - stream.avail_in, room - stream.avail_out, result == Z_STREAM_END, {}};
    is_whole = step.ended;
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
      step.wrong = stream.msg != nullptr ? stream.msg : zError(result);
    return step;
  }
  bool is_padding(char byte) const override { return byte == 0; }

  z_stream stream{};
  bool is_whole = false;
};

struct UnpackedFile::Zstd : Unpacker {
  Zstd() : stream(ZSTD_createDCtx()) { CHECK(stream != nullptr, "zstd has no memory for a stream"); }
  ~Zstd() override { ZSTD_freeDCtx(stream); }

  Step step(std::string_view packed, char* plain, size_t room) override {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    ZSTD_outBuffer out{plain, room, 0};
    const size_t result = ZSTD_decompressStream(stream, &out, &in);
    if (ZSTD_isError(result)) return {in.pos, out.pos, false, ZSTD_getErrorName(result)};
    return {in.pos, out.pos, result == 0, {}};
  }

  ZSTD_DCtx* stream;
};

Packer packer_of(std::string_view path) {
  return path.ends_with(".gz") ? Packer::kGzip : path.ends_with(".zst") ? Packer::kZstd : Packer::kNone;
}

std::string_view name_of(Packer packer) {
  return packer == Packer::kGzip ? "gzip" : packer == Packer::kZstd ? "zstd" : "";
}

UnpackedFile::UnpackedFile(std::string path, Packer packer) : path_(std::move(path)), packer_(packer) {
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0 && errno == ENOENT)
    fail(ExitCode::kMissingInput, "there is no such file, {}, correct the path", path_);
  if (descriptor_ < 0 && errno == ENXIO) fail(ExitCode::kBadInput, "is a socket or a device, {}, name a file", path_);
  if (descriptor_ < 0)
    fail(ExitCode::kInputOutput, "cannot be opened ({}), {}, check its permissions", std::strerror(errno), path_);
  plain_.resize(kBlock);
  if (packer_ == Packer::kNone) return;
  packed_.resize(kBlock);
  if (packer_ == Packer::kGzip) unpacker_ = std::make_unique<Gzip>();
  if (packer_ == Packer::kZstd) unpacker_ = std::make_unique<Zstd>();
}

UnpackedFile::~UnpackedFile() { close(descriptor_); }

void UnpackedFile::damaged(std::string_view what) const {
  fail(ExitCode::kBadInput, "is not a whole {} stream ({}, at byte {} of the file), {}:{}, fetch or pack it again",
       name_of(packer_), what, position_ - static_cast<int64_t>(packed_end_ - packed_at_), path_, lines_ + 1);
}

void UnpackedFile::too_long(std::string_view what, int64_t longest) const {
  fail(ExitCode::kBadInput, "{} is longer than {} MiB, {}:{}, split it", what, longest >> 20, path_, lines_ + 1);
}

namespace {

// Reads up to `bytes` from a file or pipe; 0 at its end.
size_t read_some(int descriptor, char* to, size_t bytes, const std::string& path) {
  for (;;) {
    const ssize_t count = read(descriptor, to, bytes);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EINTR) continue;
    if (errno == EISDIR) fail(ExitCode::kBadInput, "is a folder, {}, name the files in it", path);
    fail(ExitCode::kInputOutput, "cannot be read to its end ({}), {}, check the disk and start again",
         std::strerror(errno), path);
  }
}

}  // namespace

bool UnpackedFile::read_packed() {
  packed_at_ = 0;
  packed_end_ = read_some(descriptor_, packed_.data(), packed_.size(), path_);
  position_ += static_cast<int64_t>(packed_end_);
  return packed_end_ > 0;
}

bool UnpackedFile::fill() {
  plain_at_ = plain_end_ = 0;
  if (!unpacker_) {
    plain_end_ = read_some(descriptor_, plain_.data(), plain_.size(), path_);
    position_ += static_cast<int64_t>(plain_end_);
    return plain_end_ > 0;
  }
  while (plain_end_ == 0) {
    const bool at_end = packed_at_ == packed_end_ && !read_packed();
    if (at_end && between_streams_) return false;
    if (between_streams_ && streams_ > 0) {
      while (packed_at_ < packed_end_ && unpacker_->is_padding(packed_[packed_at_])) ++packed_at_;
      if (packed_at_ == packed_end_) continue;
    }
    const std::string_view packed(packed_.data() + packed_at_, packed_end_ - packed_at_);
    const Unpacker::Step step = unpacker_->step(packed, plain_.data(), plain_.size());
    packed_at_ += step.taken;
    plain_end_ = step.made;
    if (!step.wrong.empty()) damaged(step.wrong);
    // At the end of the file the unpacker may still hold output that had no room before.
    if (at_end && step.made == 0 && !step.ended) damaged("it is cut off");
    if (step.taken + step.made == 0 && !step.ended) damaged("it makes no progress");
    between_streams_ = step.ended;
    streams_ += step.ended;
  }
  return true;
}

bool UnpackedFile::line(std::string& text, int64_t longest) {
  text.clear();
  for (bool any = false;; any = true) {
    if (plain_at_ == plain_end_ && !fill()) {
      if (any) ++lines_;
      return any;
    }
    const char* begin = plain_.data() + plain_at_;
    const size_t left = plain_end_ - plain_at_;
    const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', left));
    const size_t length = newline != nullptr ? static_cast<size_t>(newline - begin) : left;
    if (static_cast<int64_t>(text.size() + length) > longest) too_long("a line", longest);
    text.append(begin, length);
    plain_at_ += length + (newline != nullptr ? 1 : 0);
    if (newline == nullptr) continue;
    ++lines_;
    return true;
  }
}

std::string UnpackedFile::rest(int64_t longest) {
  std::string text;
  while (plain_at_ < plain_end_ || fill()) {
    if (static_cast<int64_t>(text.size() + plain_end_ - plain_at_) > longest) too_long("the text", longest);
    text.append(plain_.data() + plain_at_, plain_end_ - plain_at_);
    plain_at_ = plain_end_;
  }
  return text;
}

}  // namespace carillon
