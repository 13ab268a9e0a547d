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
  kModelFolder,  // a folder with config.json beside safetensors weights: a model, which an export replaces
                 // whole
};

// Error 64 naming the input, or what to do about a foreign file. For a folder: 64 when it is an input itself, or holds
// files under an export's names without being a model's folder.
void check_output(const std::string& output, const std::vector<std::string>& inputs, OutputKind kind, bool overwrite);

}  // namespace carillon
