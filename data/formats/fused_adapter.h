// Adapters of layers that a model's files hold as one (phi3: q, k and v; gate and up). We have an adapter for each
// part; PEFT has one for the whole, y = W·x + s·B(A·x). Both ways say the same:
//   to PEFT    A's rows below one another, B block by block along its diagonal, the rank the sum of the parts'
//   from PEFT  each part has A as it is, and its own rows of B
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/formats/model_source.h"
#include "parallel/shard.h"

namespace carillon {

struct FusedAdapter {
  struct Part {
    std::string a, b;  // names of [rank, in] and [rows, rank]; empty where the part has none
    int64_t rows = 0;  // outputs
    int64_t rank = 0;
    double factor = 1;  // of B, where the parts' scales differ
  };
  std::string a, b;  // of the whole
  std::vector<Part> parts;
};

// `source` with the wholes in place of their parts, for the export of an adapter.
std::unique_ptr<ModelSource> join_adapter(std::unique_ptr<ModelSource> source, std::vector<FusedAdapter> fused);

// `source` with the parts in place of each whole that it has; itself where it has none. Of a part only names and rows
// count. Error 65 where B has other rows than the parts together.
std::unique_ptr<ModelSource> split_adapter(std::unique_ptr<ModelSource> source, const std::vector<FusedAdapter>& fused);

}  // namespace carillon
