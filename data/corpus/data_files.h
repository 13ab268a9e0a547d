// Expands the entries of the data to files, and tells from a file's name what it contains:
//   .jsonl   one JSON object per line   .txt   one document      both also compressed: .jsonl.gz, .txt.zst …
//   .h5      a token file (carillon tokenize)
//
// An entry is a file, a folder or a shell pattern (`*`, `?`, `[…]`). A path that exists is taken literally, whatever
// characters it contains. In a folder or in what a pattern matches, files of these kinds are read, including those in
// subfolders but not hidden ones (.name). They are ordered by the bytes of their paths, which is the same order on
// every machine.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/files/unpacked_file.h"

namespace carillon {

enum class DataContent { kUnknown, kJsonLines, kText, kTokens };

struct DataKind {
  DataContent content = DataContent::kUnknown;
  Packer packer = Packer::kNone;
};
DataKind data_kind_of(std::string_view path);

struct DataFiles {
  std::vector<std::string> paths;
  // Messages for the user: what a folder or pattern expands to, what was left out of it, and which files are unpacked.
  std::vector<std::string> notices;
};

// Throws error 66, naming an entry that does not exist, matches nothing or contains no data, and 74 for a folder that
// cannot be read.
DataFiles find_data_files(const std::vector<std::string>& entries);

}  // namespace carillon
