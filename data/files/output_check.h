// Before a command writes: is the output one of its inputs, or somebody else's file? The one place that says what is
// the program's own.
//
// An output that is an input under whatever name (device and inode are compared, links followed; of a folder that is
// an input, every file in it) is refused, with or without `overwrite`. A file that is there already may be replaced
// when it is empty, when it is one that this program writes for the same purpose (below), or with overwrite=true. What
// is no regular file (/dev/stdout, a pipe) is written to as it is.
#pragma once

#include <string>
#include <vector>

namespace carillon {

enum class OutputKind {
  kModelFile,    // HDF5 with the root attribute format_version, as `import` writes
  kTokenFile,    // HDF5 with the root attribute kind = "carillon tokens …", as `tokenize` writes
  kScores,       // JSON lines that begin with id and have logprobs, as `score` writes
  kSequences,    // JSON lines that begin with tokens and have loss_mask, as `posgen` writes
  kCompletions,  // JSON lines that begin with id and have tokens, as `generate` writes
  kPage,         // HTML that names carillon as its generator, as `report` and `sweep` write
  kGguf,         // a GGUF with the key carillon.rope, as `export format=gguf` writes
  kProfile,      // JSON that begins with version and has library_bytes, as `bench` writes
  kTrace,        // a list of events, as runtime.trace writes
  kModelFolder,  // a folder with config.json beside safetensors weights: a model, which an export replaces
                 // whole
};

// Error 64 naming the input, or what to do about a foreign file; also for an output without a name, one that begins
// with ~/, and an HDF5 file that would be a device or a pipe. For a folder: 64 when it is an input itself, or holds
// files under an export's names without being a model's folder.
void check_output(const std::string& output, const std::vector<std::string>& inputs, OutputKind kind, bool overwrite);

// A folder in which a command keeps results under names of its own, beside what else may lie there.
struct ResultFolder {
  std::string path;
  std::vector<std::string> names;   // files that would be replaced
  std::vector<std::string> others;  // what is only in folders of another kind: a model's, a run's
  bool known = false;               // it holds such results already: what is there under `names` is the command's own
};

// Before results are first kept there. Error 64 for a folder of another kind, and for one of `names` that is there and
// not empty (the configuration that was read, somebody's table); with `overwrite` for the latter only when it is one of
// `inputs`. Pages of ours, and what is no regular file, are no hindrance.
void check_result_folder(const ResultFolder& folder, const std::vector<std::string>& inputs, bool overwrite);

}  // namespace carillon
