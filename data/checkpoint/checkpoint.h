// Checkpoints: folders checkpoints/step-00000100 with manifest.json and state.h5 (both described in data/README.md).
// They can be written by any layout and resumed by any other, because all tensors are stored at their global shape.
//
// A folder gets its final name only when everything in it is on disk. It is written under .tmp-…, every rank syncs, the
// manifest with the hash of every tensor is written last, and then the folder is renamed. No matter when a process is
// killed, the earlier checkpoints remain valid.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/shard.h"
#include "parallel/transport/communicator.h"

namespace carillon {

using Json = nlohmann::ordered_json;

inline constexpr int64_t kCheckpointFormat = 1;

struct Manifest {
  int64_t step = 0;
  Json layout = Json::object();  // the layout that wrote it; informative only, never read
  Json data = Json::object();    // position in the data and a few numbers of the trainer
  Json config = Json::object();  // "run": the configuration, "model": config.json
  struct TensorEntry {
    std::string dtype;
    std::vector<int64_t> shape;
    std::string hash;
  };
  std::map<std::string, TensorEntry> tensors;  // by dataset path; filled by save_checkpoint
};

struct SaveResult {
  bool saved = false;
  std::string path;     // the folder
  std::string why_not;  // if not saved: no space (a full disk, a quota, a limit on files); nothing has changed
  std::string trouble;  // saved, but something else went wrong that deserves a warning
};

// Saves a checkpoint. Collective over world; rank 0's manifest is used. Every rank lists the same names in the same
// order, and the owned rectangles cover each tensor exactly once. An existing folder of the same name (one that failed
// verification, or one newer than the checkpoint this run started from) is first renamed to .bad-…. Afterwards the
// newest `keep` checkpoints remain, but at least the two newest valid ones, plus the one of step `best` (-1: none).
// Throws error 74 on every rank if the disk fails, and 73 if the folder cannot be created. After an error no library is
// called for the file any more; it stays behind under its temporary name.
SaveResult save_checkpoint(Communicator& world, const std::string& folder, Manifest manifest,
                           const std::vector<NamedShard>& shards, int64_t keep, int64_t best = -1);

struct CheckpointFolder {
  int64_t step;
  std::string path;
};
// All step-… entries of `folder`, newest first, unchecked; empty if the folder does not exist. Error 74.
std::vector<CheckpointFolder> list_checkpoints(const std::string& folder);
// Parses the step from a folder's name, which must be exactly as we write it (step-00000100); -1 otherwise.
int64_t step_of_folder(const std::string& path);

// Reading distinguishes damage from disk trouble. A damaged checkpoint (a file that is missing, truncated, of another
// kind, or does not match its hash) is error 65, and the reader may fall back to an older one. A disk that does not
// answer is error 74: it says nothing about the checkpoint and ends the command.

// Parses the manifest and checks its own hash, its format and its step against the folder's name.
Manifest read_manifest(const std::string& path);
// Reads the manifest of a checkpoint that looks complete: a folder (not a link to one) that contains a regular file
// state.h5. The contents are only compared with the hashes on loading.
Manifest read_manifest_if_complete(const std::string& path);

// Fills every shard from the dataset of the same name, converted to the shard's type. All bytes of the checkpoint are
// read once, divided over the ranks, and compared with the hashes. Collective; throws error 65 on every rank, naming
// file and tensor.
void load_checkpoint(Communicator& world, const std::string& path, std::vector<NamedShard>& shards);

// Performs the same check in a single process, without loading. Error 65.
void verify_checkpoint(const std::string& path);

// Returns the newest checkpoint of `folder` that verifies; reports each one that does not through `notice`. Error 65 if
// all are damaged, 66 if there are none, 74 if the disk does not answer.
std::string newest_valid_checkpoint(const std::string& folder, const std::function<void(const std::string&)>& notice);

}  // namespace carillon
