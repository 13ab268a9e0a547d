// A model with its adapter merged into the weights: W + s·B·A, formed in float64 and rounded once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "data/formats/model_source.h"

namespace carillon {

// Of one weight: the adapter's tensors and its scale.
struct Merge {
  std::string a, b;  // names of [rank, in] and [out, rank]
  double scale = 1;
};

// `source` without the adapter's tensors; each weight named in `merges` with what its adapter adds. Every tensor in
// `type`; without, in the type it is stored in.
std::unique_ptr<ModelSource> merge_source(std::unique_ptr<ModelSource> source, std::map<std::string, Merge> merges,
                                          std::optional<StoredType> type);

}  // namespace carillon
