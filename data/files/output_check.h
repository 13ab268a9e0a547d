// Checks before a command writes whether the output is one of its inputs or a file of somebody else. Only this code
// decides which files the program may replace.
//
// An output that is an input under any name is refused, with or without `overwrite` (device and inode are compared and
// links followed; if an input is a folder, so is every file in it). An existing file may be replaced if it is empty, if
// this program writes files like it for the same purpose (below), or with overwrite=true. Anything other than a regular
// file (/dev/stdout, a pipe) is written to directly.
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
  kChart,        // an SVG of wavelengths, as `rope svg=` writes
};

// Error 64 naming the input, or what to do about a foreign file; also for an output without a name, one that begins
// with ~/ or leads through a missing folder and back (MISSING/../NAME), and an HDF5 file that would be a device or a
// pipe. For a folder: 64 when it is an input itself, or holds files under an export's names without being a model's
// folder.
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
