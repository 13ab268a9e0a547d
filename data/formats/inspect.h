// What is in a file or folder of ours or of Hugging Face's, with every hash verified.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace carillon {

using Json = nlohmann::ordered_json;

// Keys: kind ("model file", "checkpoint", "token file", "hugging face folder"), path, config, tensors (name -> dtype,
// shape, hash), and by kind step, layout, data, documents, tokens. Error 65 naming file and tensor when a hash, the
// manifest's own included, does not hold; 66 when there is nothing.
Json inspect(const std::string& path, const std::function<void(const std::string&)>& notice);

}  // namespace carillon
