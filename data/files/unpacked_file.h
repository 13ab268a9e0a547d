// A file read from its beginning to its end, unpacked on the way: gzip (several members too, as `cat a.gz b.gz` leaves
// them) by zlib, zstd (several frames, skippable ones among them) by libzstd, anything else as it stands. What is held
// is two blocks of a megabyte and the unpacker's window (zstd: at most 128 MiB), however large the result: a file that
// unpacks to a million times its size takes time, no memory. Pipes are read too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

enum class Packer { kNone, kGzip, kZstd };

// By the name's ending: .gz, .zst.
Packer packer_of(std::string_view path);
// "gzip", "zstd"; empty for none.
std::string_view name_of(Packer packer);

class UnpackedFile {
 public:
  // Error 66 when there is no such file, 74 when it cannot be opened.
  UnpackedFile(std::string path, Packer packer);
  ~UnpackedFile();
  UnpackedFile(const UnpackedFile&) = delete;

  // The next line without its newline; false at the end. Errors: 65 for a stream that is damaged, cut off, of another
  // kind or followed by something else, with "PATH:LINE" and the byte of the file; 65 for a line beyond `longest`
  // bytes; 74 when the disk does not answer.
  bool line(std::string& text, int64_t longest);
  // All that is left. Errors as above.
  std::string rest(int64_t longest);

  // Bytes of the file itself, packed as it is, read so far: for progress.
  int64_t position() const { return position_; }

 private:
  class Unpacker;
  struct Gzip;
  struct Zstd;
  bool fill();  // more into plain_, of which nothing is left; false at the end
  bool read_packed();
  [[noreturn]] void damaged(std::string_view what) const;
  [[noreturn]] void too_long(std::string_view what, int64_t longest) const;

  std::string path_;
  Packer packer_;
  int descriptor_ = -1;
  int64_t position_ = 0, lines_ = 0;
  std::vector<char> packed_, plain_;       // packed_ is not used without a packer
  size_t packed_at_ = 0, packed_end_ = 0;  // what of packed_ is not unpacked yet
  size_t plain_at_ = 0, plain_end_ = 0;    // what of plain_ is not handed out yet
  std::unique_ptr<Unpacker> unpacker_;
  int64_t streams_ = 0;           // members or frames that are whole
  bool between_streams_ = false;  // nothing of the next one has been seen
};

}  // namespace carillon
