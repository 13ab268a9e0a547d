// Exports a model source to a single GGUF file. The caller decides on the names of the tensors, the order of their rows
// and the keys that describe the model (launch/session/gguf_model.h). This code reads, reorders, rounds and writes the
// tensors, a few megabytes at a time.
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
  bool exact = false;            // float32 whatever the file's type: norms, biases, factors
  int64_t interleaved_head = 0;  // rows per head to reorder from halves to neighbours (gguf_values.h); 0: no reordering
  double offset = 0;             // added to every element
  std::vector<float> values;     // elements of a tensor without source
};

struct GgufCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;       // of the tensors
  int64_t other_type = 0;  // matrices stored as float16 because their rows are not a multiple of 32
};

// Error 64 naming a tensor with a value that `type` cannot represent; 65 as in ModelSource::read; 73, 74. The caller
// must have checked the output (output_check.h) and the tensors (ModelSource::require).
GgufCounts export_gguf(const ModelSource& source, const GgufKeys& keys, const std::vector<GgufTensor>& tensors,
                       GgufType type, const std::string& path);

}  // namespace carillon
