// RUN/tokenizer/: the tokenizer's files as the run used them, so that the run's folder means the same when the model it
// came from, or data.tokenizer's folder, has moved, changed or gone.
#pragma once

#include <map>
#include <string>

#include "data/formats/model_source.h"
#include "launch/config/run_config.h"

namespace carillon {

inline constexpr const char* kRunTokenizerFolder = "tokenizer";

// By name, the files of data.tokenizer, else of `source` (the model trained on; may be null). Reads only. Error 65, 74.
std::map<std::string, std::string> read_tokenizer_files(const RunConfig& config, const ModelSource* source);

// Writes them into the run's folder; what lay there before and is no part of them is removed. One rank alone. Errors as
// OutputFile's, and 73.
void keep_tokenizer_files(const std::string& output, const std::map<std::string, std::string>& files);

}  // namespace carillon
