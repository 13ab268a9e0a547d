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
  kModelFolder,  // a folder with config.json beside safetensors weights: a model, which an export replaces
                 // whole
};

// Error 64 naming the input, or what to do about a foreign file. For a folder: 64 when it is an input itself, or holds
// files under an export's names without being a model's folder.
void check_output(const std::string& output, const std::vector<std::string>& inputs, OutputKind kind, bool overwrite);

}  // namespace carillon
