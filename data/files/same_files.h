// Checks that all ranks read the same files. A path refers to whatever the rank's node has there. With node-local disks
// this may be a stale copy, and training on a mixture shows no visible error. So all files that ranks read
// independently are compared by content before they are used.
//
// This costs one small exchange. If ranks reach a path on several machines (or through different mounts), each of them
// also reads the file once, shared by its ranks and hashed while it is read. On a single machine, if device, inode,
// size and times show that all ranks open the same file, nothing is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

// Gathers every rank's text in rank order. Collective.
std::vector<std::string> gather_texts(Communicator& world, const std::string& mine);

// Returns one number per rank; ranks under the same kernel have equal numbers. Collective.
std::vector<int> machines_of_ranks(Communicator& world);

// Throws error 65 on every rank if the ranks' texts differ, naming `what` and two ranks with their hosts. `detail`
// describes this rank's text in the message (empty: nothing). Collective.
void require_same_text(Communicator& world, const std::string& what, const std::string& text,
                       const std::string& detail = "");

struct FileContent {
  std::string path;
  int64_t size = 0;
  std::string hash;      // of all its bytes, 32 hexadecimal digits; independent of which rank read which part
  std::string identity;  // device, inode, size and times on this rank's machine before hashing
};

// Throws error 65 if the file has changed since it was hashed: what was read since may belong to neither version.
void require_unchanged(const FileContent& file);

// Returns the content of files; every rank passes the same list of paths. Throws error 65 on every rank if ranks see
// different contents, naming the file and two ranks with their hosts; 65 for anything but a regular file and 66 for a
// missing file, naming the host. Collective.
std::vector<FileContent> agree_on_content(Communicator& world, const std::vector<std::string>& paths);

// The same without returning hashes; they are only computed if they are needed for the comparison.
void require_same_files(Communicator& world, const std::vector<std::string>& paths);

}  // namespace carillon
