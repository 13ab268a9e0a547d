// Reads a file from beginning to end and decompresses it on the way: gzip (also several members, as from `cat a.gz
// b.gz`) with zlib, zstd (also several frames and skippable ones) with libzstd, anything else unchanged. Memory is
// bounded by two blocks of a megabyte and the decompressor's window (zstd: at most 128 MiB), however large the result:
// a file that unpacks to a million times its size costs time, not memory. Pipes can be read too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

enum class Packer { kNone, kGzip, kZstd };

// Determined by the name's ending: .gz, .zst.
Packer packer_of(std::string_view path);
// "gzip", "zstd"; empty for none.
std::string_view name_of(Packer packer);

class UnpackedFile {
 public:
  // Error 66 if there is no such file, 74 if it cannot be opened.
  UnpackedFile(std::string path, Packer packer);
  ~UnpackedFile();
  UnpackedFile(const UnpackedFile&) = delete;

  // Reads the next line without its newline; false at the end. Error 65 with "PATH:LINE" and the byte offset for a
  // stream that is damaged, truncated, of another kind or followed by something else; 65 for a line of more than
  // `longest` bytes; 74 if the disk does not answer.
  bool line(std::string& text, int64_t longest);
  // Reads all that is left. Errors as above.
  std::string rest(int64_t longest);

  // For progress: bytes read so far, counted in the compressed file.
  int64_t position() const { return position_; }

 private:
  class Unpacker;
  struct Gzip;
  struct Zstd;
  bool fill();  // refills plain_, which must be used up; false at the end
  bool read_packed();
  [[noreturn]] void damaged(std::string_view what) const;
  [[noreturn]] void too_long(std::string_view what, int64_t longest) const;

  std::string path_;
  Packer packer_;
  int descriptor_ = -1;
  int64_t position_ = 0, lines_ = 0;
  std::vector<char> packed_, plain_;       // packed_ is only used with a packer
  size_t packed_at_ = 0, packed_end_ = 0;  // the part of packed_ that is not unpacked yet
  size_t plain_at_ = 0, plain_end_ = 0;    // the part of plain_ that is not returned yet
  std::unique_ptr<Unpacker> unpacker_;
  int64_t streams_ = 0;           // complete members or frames
  bool between_streams_ = false;  // no byte of the next one has been read
};

}  // namespace carillon
