// A head that is stored although config.json ties it to the embedding. transformers 5 compares the two: if they are
// equal, the model is tied; if not, it is not tied, whatever config.json says. We do the same and return a config.json
// that says so.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"

namespace carillon {

struct StoredValues {
  StoredType type = StoredType::kFloat32;
  std::vector<int64_t> shape;
  const void* data = nullptr;  // packed
};
// Whether two tensors hold the same numbers, possibly in different types.
bool equal_values(const StoredValues& a, const StoredValues& b);

// Returns the config.json for weights in which head and embedding are both stored. `equal` compares them; it is not
// called if config.json says that they are not tied. A contradiction adds one line to `notices`.
std::string config_of_stored_head(const std::string& config, const std::function<bool()>& equal,
                                  const std::string& path, std::vector<std::string>& notices);

}  // namespace carillon
