// Adapters of layers that a model's files store as one (phi3: q, k and v; gate and up). We have an adapter for each
// part; PEFT has one for the whole, y = W·x + s·B(A·x). They are converted exactly:
//   to PEFT    stack the A of the parts by rows, put the B as blocks on the diagonal; the rank is the sum of the ranks
//   from PEFT  each part gets the whole A, and its rows of B
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/formats/model_source.h"
#include "parallel/shard.h"

namespace carillon {

struct FusedAdapter {
  struct Part {
    std::string a, b;  // names of [rank, in] and [rows, rank]; empty if the part has no adapter
    int64_t rows = 0;  // outputs
    int64_t rank = 0;
    double factor = 1;  // multiplies B, if the parts' scales differ
  };
  std::string a, b;  // names in the whole
  std::vector<Part> parts;
};

// Returns `source` with each whole in place of its parts, for the export of an adapter.
std::unique_ptr<ModelSource> join_adapter(std::unique_ptr<ModelSource> source, std::vector<FusedAdapter> fused);

// Returns `source` with the parts in place of each whole that it contains, or `source` itself if it contains none. Only
// the names and rows of the parts are used. Error 65 if B does not have as many rows as the parts together.
std::unique_ptr<ModelSource> split_adapter(std::unique_ptr<ModelSource> source, const std::vector<FusedAdapter>& fused);

}  // namespace carillon
