// Whether all ranks read the same. A path names whatever the node it is read on has there: with node-local disks that
// may be a stale copy, and ranks that train on a mixture fail in no visible way. So whatever ranks read by themselves
// is compared by content before it is used.
//
// Cost: one small exchange, and where ranks reach a path on more than one machine (or through different mounts) one
// read of the file on each, shared by the ranks there, hashed at the speed it is read with. On one machine, where
// device, inode, size and times say that all ranks open one and the same file, nothing is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

// Every rank's text, in rank order. Collective.
std::vector<std::string> gather_texts(Communicator& world, const std::string& mine);

// A number for each rank: equal for ranks under one kernel. Collective.
std::vector<int> machines_of_ranks(Communicator& world);

// Error 65 on every rank, naming `what` and two ranks with their hosts, when the ranks' texts differ. `detail`: what is
// told of a rank's text (empty: nothing). Collective.
void require_same_text(Communicator& world, const std::string& what, const std::string& text,
                       const std::string& detail = "");

struct FileContent {
  std::string path;
  int64_t size = 0;
  std::string hash;      // of all its bytes, 32 hexadecimal digits; independent of who read which part
  std::string identity;  // on this rank's machine, before it was hashed: device, inode, size and times
};

// Error 65 when the file is no longer the one that was hashed: what was read since may be neither.
void require_unchanged(const FileContent& file);

// The content of files that every rank names alike (the same list on every rank). Error 65 on every rank when ranks
// see different contents, naming the file and two ranks with their hosts; 65 for what is no regular file, 66 for what
// is not there, naming the host. Collective.
std::vector<FileContent> agree_on_content(Communicator& world, const std::vector<std::string>& paths);

// The same without the hash, which is then taken only where it is needed to compare.
void require_same_files(Communicator& world, const std::vector<std::string>& paths);

}  // namespace carillon
