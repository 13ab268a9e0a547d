// Which files an entry of the data stands for, and what is in them by their names:
//   .jsonl   a JSON object a line      .txt   one document      both also packed: .jsonl.gz, .txt.zst …
//   .h5      a token file (carillon tokenize)
//
// An entry is a file, a folder or a pattern of the shell (`*`, `?`, `[…]`). A path that is there is taken as it stands,
// whatever characters it has. Of a folder, and of what a pattern matches, files of these kinds are read, those of
// subfolders too, and hidden ones (.name) left out, in the order of their paths' bytes: the same on every machine.
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
  // What a person should hear: what a folder or pattern stands for and what in it was left out; which are unpacked.
  std::vector<std::string> notices;
};

// Error 66 naming an entry that is not there, matches nothing or has no data in it; 74 for a folder that cannot be
// read.
DataFiles find_data_files(const std::vector<std::string>& entries);

}  // namespace carillon
