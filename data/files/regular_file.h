// Opening files that somebody else named: only regular files, and never one that keeps us waiting. A FIFO, a device or
// a socket in a model's folder is refused before a byte is read.
#pragma once

#include <cstdint>
#include <string>

namespace carillon {

struct OpenedFile {
  int descriptor = -1;  // the caller's to close
  int64_t size = 0;
};
// For reading; symbolic links are followed (Hugging Face's cache is made of them). Error 66 when there is no such file,
// 65 when it is no regular file, 74 when it cannot be opened.
OpenedFile open_regular_file(const std::string& path);

// The whole of a text file of at most `limit` bytes. Errors as above, 65 when it is longer, 74 when it cannot be read.
inline constexpr int64_t kLargestTextFile = int64_t{512} << 20;
std::string read_text_file(const std::string& path, int64_t limit = kLargestTextFile);

// All of [place, place + bytes), or error 74 (the disk) or 65 (the file is shorter); `what` begins the message.
void read_exactly(int descriptor, int64_t place, void* to, int64_t bytes, const std::string& what,
                  const std::string& path);

}  // namespace carillon
