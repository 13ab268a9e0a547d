// PosGen: token sequences whose next token is a modular sum of a few earlier ones, far and near (Resonance RoPE, arXiv
// 2403.00071 §4 and §6.1.1). With j = far, k = near, prefix x_0 … x_{j+k-1} and h(a…) = (Σ a) mod modulus, for l ≥ j+k:
//
//   recursive              x_l = h(x_{l-j-k} … x_{l-1})
//   cot                    x_l = h(x_0 … x_{j-1},      x_{l-k} … x_{l-1})
//   semi_recursive         x_l = h(x_p … x_{p+j-1},    x_{l-k} … x_{l-1})    p = ⌊(l − (j+k)) / 2⌋
//   semi_recursive_strict  as semi_recursive at even l − (j+k); at odd ones x_l = h(x_{l-k} … x_{l-1})
//
// The strict form is ours. In the other three, neighbouring tokens mostly share their far tokens, which then cancel
// (recursive: x_l = 2·x_{l-1} − x_{l-5} for j = 1, k = 3), so a model can be nearly right without ever looking far.
// Evaluations separately report *fresh* positions, whose far tokens cannot be inferred from the j+k+1 preceding tokens.
//
// Token ids: digits 0 … M−1, then UNK M, PAD M+1, CLS M+2, SEP M+3, EOS M+4; vocabulary M+5. A sample is EOS followed
// by the sequence, so sequence token l is at position l+1; EOS and the prefix have no loss.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

enum class PosGenTask { kRecursive, kCot, kSemiRecursive, kSemiRecursiveStrict };
enum class PosGenSplit { kTrain, kValidation, kTest };

// Random: what the paper intends. The M^(j+k) prefixes are put into a random order that depends on the seed. The first
// eight tenths are the training split, then follow one tenth each for validation and test (rounded down; training gets
// the rest). No prefix occurs twice.
//
// Reference: what the authors' code does. The prefixes are strictly ascending and in lexicographic order, repeated from
// the start when they run out. Validation takes rows 0 …, test rows 1000 … of the same list that training uses.
enum class PosGenPrefixes { kRandom, kReference };

// Parse the names that users write; anything else is error 64, which lists the choices.
PosGenTask parse_posgen_task(std::string_view name);
PosGenSplit parse_posgen_split(std::string_view name);
PosGenPrefixes parse_posgen_prefixes(std::string_view name);

struct PosGenOptions {
  PosGenTask task = PosGenTask::kRecursive;
  PosGenSplit split = PosGenSplit::kTrain;
  PosGenPrefixes prefixes = PosGenPrefixes::kRandom;
  int64_t modulus = 17;
  int64_t far = 1;
  int64_t near = 3;
  int64_t length = 64;   // tokens after the leading EOS, including the prefix; more than far + near
  int64_t count = 1000;  // sequences
  uint64_t seed = 42;
};

// Continues `prefix`, which has far + near digits, to `length` tokens.
std::vector<int64_t> posgen_sequence(PosGenTask task, int64_t modulus, int64_t far, int64_t near,
                                     std::vector<int64_t> prefix, int64_t length);

// Whether sequence token `index` (≥ far + near) needs its far tokens, i.e. they cannot be inferred from the preceding
// tokens.
bool posgen_is_fresh(PosGenTask task, int64_t far, int64_t near, int64_t index);

inline int64_t posgen_eos(int64_t modulus) { return modulus + 4; }
inline int64_t posgen_vocabulary(int64_t modulus) { return modulus + 5; }

// Random access to the sequences of one split. Error 64 if modulus < 2, far or near < 1, length ≤ far + near, count
// exceeds the number of prefixes in the split (random), there are more than 2^62 prefixes, or there is no ascending
// prefix (reference).
class PosGen {
 public:
  explicit PosGen(const PosGenOptions& options);

  int64_t prefixes_in_split() const { return available_; }
  std::vector<int64_t> prefix(int64_t index) const;  // [far + near]
  std::vector<int64_t> tokens(int64_t index) const;  // [1 + length]: EOS, then the sequence
  // 0 for EOS and prefix, 1 elsewhere.
  std::vector<int64_t> loss_mask() const;

 private:
  PosGenOptions options_;
  int64_t prefixes_ = 0;  // of all splits
  int64_t first_ = 0;     // where the split begins in the order of prefixes
  int64_t available_ = 0;
};

// Writes one {"tokens":[…],"loss_mask":[…]} per line. The file is written under a temporary name and renamed when it is
// complete, so that a failure keeps the old file. Error 73 if it cannot be created, 74 if writing fails.
void write_posgen(const PosGenOptions& options, const std::string& path);

}  // namespace carillon
