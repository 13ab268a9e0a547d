// Describes the contents of a file or folder of ours or of Hugging Face's, and verifies all hashes.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace carillon {

using Json = nlohmann::ordered_json;

// Keys: kind ("model file", "checkpoint", "token file", "hugging face folder"), path, config, tensors (name -> dtype,
// shape, hash), and depending on the kind step, layout, data, documents, tokens. Error 65 naming file and tensor if a
// hash does not match (including the manifest's own); 66 if the path does not exist.
Json inspect(const std::string& path, const std::function<void(const std::string&)>& notice);

}  // namespace carillon
