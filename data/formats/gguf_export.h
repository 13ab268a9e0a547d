// A model source -> one GGUF file. What the tensors are called, in which order their rows go and which keys describe
// the model is for the caller to say (launch/session/gguf_model.h); here they are read, turned, rounded and written,
// some megabytes at a time.
#pragma once

#include <string>
#include <vector>

#include "data/formats/gguf_file.h"
#include "data/formats/model_source.h"

namespace carillon {

struct GgufTensor {
  std::string name;    // "blk.0.attn_q.weight"
  std::string source;  // Hugging Face's name; empty: `values` are its elements
  std::vector<int64_t> shape;
  bool exact = false;         // float32 whatever the file's type is: norms, biases, factors
  int64_t turned_head = 0;    // rows of a head, to be turned from halves to neighbours (gguf_values.h); 0: as they are
  double offset = 0;          // added to every element
  std::vector<float> values;  // of a tensor without source
};

struct GgufCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;       // of the tensors
  int64_t other_type = 0;  // matrices that stand in float16 because their rows are no multiple of 32
};

// Error 64 naming a tensor with a value that `type` cannot hold; 65 as ModelSource::read; 73, 74. The caller has
// checked the output (output_check.h) and the tensors (ModelSource::require).
GgufCounts export_gguf(const ModelSource& source, const GgufKeys& keys, const std::vector<GgufTensor>& tensors,
                       GgufType type, const std::string& path);

}  // namespace carillon
