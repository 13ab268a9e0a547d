// RUN/tokenizer/: a copy of the tokenizer's files that the run used, so that the run's folder stays complete when the
// original model or data.tokenizer's folder has moved, changed or been removed.
#pragma once

#include <map>
#include <string>

#include "data/formats/model_source.h"
#include "launch/config/run_config.h"

namespace carillon {

inline constexpr const char* kRunTokenizerFolder = "tokenizer";

// Returns, by name, the files of data.tokenizer, or else of `source` (the model trained on; may be null). Only reads.
// Errors 65, 74.
std::map<std::string, std::string> read_tokenizer_files(const RunConfig& config, const ModelSource* source);

// Writes `files` into the run's folder and removes earlier files there that are not among them. Called on one rank
// only. Throws what OutputFile throws, and error 73.
void keep_tokenizer_files(const std::string& output, const std::map<std::string, std::string>& files);

}  // namespace carillon
