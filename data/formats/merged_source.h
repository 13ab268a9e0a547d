// A model with its adapter merged into the weights: W + s·B·A, computed in float64 and rounded once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "data/formats/model_source.h"

namespace carillon {

// The adapter of one weight: its tensors and its scale.
struct Merge {
  std::string a, b;  // names of [rank, in] and [out, rank]
  double scale = 1;
};

// Returns `source` without the adapter's tensors and with the adapter added to each weight in `merges`. All tensors
// have `type`, or by default the type in which they are stored.
std::unique_ptr<ModelSource> merge_source(std::unique_ptr<ModelSource> source, std::map<std::string, Merge> merges,
                                          std::optional<StoredType> type);

}  // namespace carillon
