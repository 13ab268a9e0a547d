// Files by system calls, with what none of their callers should have to repeat: a call that a signal cut short goes on,
// a short read or write goes on, a read that the disk refuses is tried again, and only regular files are opened (a FIFO
// or a device in a file's place would be waited for for ever).
//
// Errors keep what happened apart from what it means: 66 the file is not there, 65 it is of another kind or ends too
// early (damage), 74 the disk does not answer (no damage: worth a retry), and of the latter NoSpace where a full disk,
// a quota or a limit on the file's size is the reason, so that a periodic checkpoint can be left out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

class NoSpace : public Error {
 public:
  explicit NoSpace(const std::string& message) : Error(ExitCode::kInputOutput, message) {}
};

// ENOSPC, EDQUOT, EFBIG.
bool means_no_space(int reason);
// "WHAT (reason), PATH, what to do": NoSpace or Error 74 by `reason`, an errno.
[[noreturn]] void fail_to_write(const std::string& what, int reason, const std::string& path);
// The same for a file or folder that could not be made: 73 where a person must change something (permissions, a path
// that cannot be), but 74, worth a retry, where the disk or its server did not answer.
[[noreturn]] void fail_to_create(const std::string& what, int reason, const std::string& path, const char* to_do);

enum class Links { kFollow, kRefuse };  // whether the last part of a path may be a symbolic link

// A regular file, open to read. Error 65 too for a link that is refused; 66 for links that lead nowhere.
class InputFile {
 public:
  explicit InputFile(std::string path, Links links = Links::kFollow);
  ~InputFile();
  InputFile(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  int64_t size() const { return size_; }  // when it was opened
  // Bytes [place, place + bytes). `what` ("tensor x", may be empty) goes into the message. Error 65 at an early end.
  void read(int64_t place, void* to, int64_t bytes, const std::string& what = "") const;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// As many of the bytes as the file has; -1 with errno set when the disk refuses lastingly.
int64_t read_up_to(int descriptor, int64_t place, void* to, int64_t bytes);

// All of [place, place + bytes), or error 74 (the disk) or 65 (the file is shorter); `what` and `path` go into the
// message.
void read_exactly(int descriptor, int64_t place, void* to, int64_t bytes, const std::string& what,
                  const std::string& path);

// All of a regular file of at most `limit` bytes (error 65 for a longer one).
inline constexpr int64_t kLargestTextFile = int64_t{512} << 20;
std::string read_whole_file(const std::string& path, int64_t limit = kLargestTextFile, Links links = Links::kFollow);

// All bytes at `place`; 0, or the errno of the call that failed.
int write_all(int descriptor, int64_t place, const void* from, int64_t bytes);

// A file opened to be written at any place; symbolic links are refused. Errors NoSpace and 74.
int open_to_write(const std::string& path, bool create);
// What is durable: the file, or a folder's entries. Errors NoSpace and 74.
void sync_path(const std::string& path);

// A small file that appears whole or not at all, whatever was at `path` (a link or a FIFO is replaced, not written
// into), and is durable but for its folder's entry. Errors NoSpace, 73 and 74.
void replace_file(const std::string& path, std::string_view text);

// Creates an empty file PATH.tmp-HOST-PID-RANDOM that no other process has, not even one in another container that
// shares the folder, and returns its path. Errors NoSpace and 73.
std::string make_temporary(const std::string& path);

}  // namespace carillon
