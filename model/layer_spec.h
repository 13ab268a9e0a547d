// One block of the network as settings. Every family is this block with different values. The readers in
// model/families/ set them for each family; model/README.md says what each setting computes.
#pragma once

#include <cstdint>

#include "runtime/backend.h"

namespace carillon {

// RMSNorm of queries and keys.
enum class QkNorm {
  kNone,
  kPerHead,               // over each head's HD entries, before the rotation
  kPerHeadAfterRotation,  // the same after the rotation
  kProjection,  // over all heads of the projection at once, before the rotation; its sum goes over all tensor ranks
};

// Where a block normalises: h = x + post(attention(pre(x))), and likewise for the MLP.
enum class NormPlacement {
  kBefore,  // only pre
  kAfter,   // only post
  kBoth,
};

struct AttentionSpec {
  int64_t window = 0;  // token i sees j with 0 <= i - j < window; 0: all tokens before it
  bool rotates = true;
  double scale = 0;  // of query · key
  QkNorm qk_norm = QkNorm::kNone;
  bool qkv_bias = false;
  bool o_bias = false;
  bool sinks = false;  // a learned logit per query head that joins the softmax's denominator and has no value
};

struct MlpSpec {
  GateActivation activation = GateActivation::kSilu;
  bool bias = false;
};

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
  NormPlacement norms = NormPlacement::kBefore;
  double residual_multiplier = 1;  // applied to the outputs of attention and MLP

  bool norm_before() const { return norms != NormPlacement::kAfter; }
  bool norm_after() const { return norms != NormPlacement::kBefore; }
};

}  // namespace carillon
