// Checkpoints: folders checkpoints/step-00000100 with manifest.json and state.h5 (data/README.md shows both). Any
// layout writes them and any other resumes, because everything in them is at global shape.
//
// A folder has its final name only when everything in it is on the disk: written under .tmp-…, every rank syncs, the
// manifest with the hash of every tensor comes last, then the rename. Whoever is killed when, the checkpoints before
// stand.
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
  Json layout = Json::object();  // what it was written by; nothing is read from it
  Json data = Json::object();    // data position and the trainer's few numbers
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
  std::string why_not;  // not saved: no space (a full disk, a quota, a limit on files); everything is as before
  std::string trouble;  // saved, but something beside it went wrong: worth a line
};

// Collective over world; the manifest is rank 0's. Every rank lists the same names in the same order; the owned
// rectangles cover each tensor once. A folder that already has the name (it failed its check, or this run began before
// it) is renamed to .bad-… first. Afterwards the newest `keep` stay, never fewer than the two newest valid ones, and
// the one of step `best` (-1: there is none). Error 74 on every rank when the disk fails; 73 when the folder cannot be
// made. After an error nothing more is called in any library about the file, which stays behind under its temporary
// name.
SaveResult save_checkpoint(Communicator& world, const std::string& folder, Manifest manifest,
                           const std::vector<NamedShard>& shards, int64_t keep, int64_t best = -1);

struct CheckpointFolder {
  int64_t step;
  std::string path;
};
// step-… entries of `folder`, newest first, whatever they are; empty when there is no such folder. Error 74.
std::vector<CheckpointFolder> list_checkpoints(const std::string& folder);
// The step in a folder's name, written as we write it (step-00000100); -1 when it has none.
int64_t step_of_folder(const std::string& path);

// Damage and trouble are kept apart: what is wrong with a checkpoint (a file that is missing, cut, of another kind, or
// does not match its hash) is error 65, and a reader may go on with an older one; a disk that does not answer is 74,
// says nothing about the checkpoint, and ends the command.

// Parses and checks the manifest: its own hash, its format, its step against the folder's name.
Manifest read_manifest(const std::string& path);
// The manifest of a checkpoint that looks whole: a folder, no link to one, with a regular state.h5 in it. Bytes are
// compared when they are loaded.
Manifest glance_at_checkpoint(const std::string& path);

// Fills every shard from the dataset of its name, converted to its type; all bytes of the checkpoint are read once over
// the ranks and compared with the hashes. Collective; error 65 on every rank, naming file and tensor.
void load_checkpoint(Communicator& world, const std::string& path, std::vector<NamedShard>& shards);

// The same check by one process alone, without loading. Error 65.
void verify_checkpoint(const std::string& path);

// The newest checkpoint of `folder` that verifies; those that do not are named through `notice`. Error 65 when there
// are only damaged ones, 66 when there are none, 74 when the disk does not answer.
std::string newest_valid_checkpoint(const std::string& folder, const std::function<void(const std::string&)>& notice);

}  // namespace carillon
