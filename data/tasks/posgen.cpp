#include "data/tasks/posgen.h"

#include <algorithm>
#include <numeric>

#include "data/files/output_file.h"
#include "runtime/check.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

constexpr int64_t kMostPrefixes = int64_t{1} << 62;
constexpr int64_t kMostSeeds = 62;              // more would exceed kMostPrefixes even with two digits
constexpr int64_t kLongest = int64_t{1} << 30;  // of one sequence, which is held in memory

// min(a·b, kMostPrefixes).
int64_t saturating_product(int64_t a, int64_t b) { return a != 0 && b > kMostPrefixes / a ? kMostPrefixes : a * b; }

// Binomial coefficient n over k, at most kMostPrefixes.
int64_t binomial(int64_t n, int64_t k) {
  if (k < 0 || k > n) return 0;
  __int128 result = 1;
  for (int64_t i = 1; i <= std::min(k, n - k); ++i) {
    result = result * (n - std::min(k, n - k) + i) / i;
    if (result > kMostPrefixes) return kMostPrefixes;
  }
  return static_cast<int64_t>(result);
}

// A permutation of [0, size) as a pure function: a balanced Feistel network over the next even power of two, repeated
// until the value is below `size` (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Needs constant
// memory; a shuffled list of 17^8 prefixes would take 56 GB.
int64_t permuted(int64_t index, int64_t size, uint64_t seed) {
  int half_bits = 1;
  while (half_bits < 31 && (int64_t{1} << (2 * half_bits)) < size) ++half_bits;
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  const uint64_t stream = stream_of("posgen.prefixes");
  uint64_t value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half_bits, right = value & mask;
    for (uint64_t round = 0; round < 8; ++round) {
      const uint64_t mixed = left ^ (random_bits(seed, stream + round, right) & mask);
      left = right;
      right = mixed;
    }
    value = left << half_bits | right;
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

// Row `row` of the strictly ascending `length`-tuples over [0, modulus) in lexicographic order.
std::vector<int64_t> ascending_tuple(int64_t row, int64_t modulus, int64_t length) {
  std::vector<int64_t> tuple;
  int64_t digit = 0;
  for (int64_t left = length; left > 0; --left, ++digit) {
    for (int64_t rows = binomial(modulus - digit - 1, left - 1); row >= rows;
         rows = binomial(modulus - digit - 1, left - 1)) {
      row -= rows;
      ++digit;
    }
    tuple.push_back(digit);
  }
  return tuple;
}

template <class Choice>
Choice parse(std::string_view name, const char* key,
             std::initializer_list<std::pair<std::string_view, Choice>> choices) {
  std::string list;
  for (const auto& [known, value] : choices) {
    if (name == known) return value;
    list += (list.empty() ? "" : ", ") + std::string(known);
  }
  fail(ExitCode::kUsage, "unknown {} '{}', posgen, choose one of {}", key, name, list);
}

}  // namespace

PosGenTask parse_posgen_task(std::string_view name) {
  return parse<PosGenTask>(name, "task",
                           {{"recursive", PosGenTask::kRecursive},
                            {"cot", PosGenTask::kCot},
                            {"semi_recursive", PosGenTask::kSemiRecursive},
                            {"semi_recursive_strict", PosGenTask::kSemiRecursiveStrict}});
}

PosGenSplit parse_posgen_split(std::string_view name) {
  return parse<PosGenSplit>(
      name, "split",
      {{"train", PosGenSplit::kTrain}, {"validation", PosGenSplit::kValidation}, {"test", PosGenSplit::kTest}});
}

PosGenPrefixes parse_posgen_prefixes(std::string_view name) {
  return parse<PosGenPrefixes>(name, "prefixes",
                               {{"random", PosGenPrefixes::kRandom}, {"reference", PosGenPrefixes::kReference}});
}

std::vector<int64_t> posgen_sequence(PosGenTask task, int64_t modulus, int64_t far, int64_t near,
                                     std::vector<int64_t> prefix, int64_t length) {
  const int64_t seeds = far + near;
  CHECK(static_cast<int64_t>(prefix.size()) == seeds, "the prefix holds far + near digits", prefix.size(), seeds);
  std::vector<int64_t> x = std::move(prefix);
  for (int64_t l = seeds; l < length; ++l) {
    int64_t far_begin = 0, far_count = far;
    if (task == PosGenTask::kRecursive) far_begin = l - seeds;
    if (task == PosGenTask::kSemiRecursive || task == PosGenTask::kSemiRecursiveStrict) far_begin = (l - seeds) / 2;
    if (task == PosGenTask::kSemiRecursiveStrict && (l - seeds) % 2 == 1) far_count = 0;
    int64_t sum = std::accumulate(x.end() - near, x.end(), int64_t{0});
    sum += std::accumulate(x.begin() + far_begin, x.begin() + far_begin + far_count, int64_t{0});
    x.push_back(sum % modulus);
  }
  return x;
}

bool posgen_is_fresh(PosGenTask task, int64_t far, int64_t near, int64_t index) {
  const int64_t generated = index - (far + near);
  CHECK(generated >= 0, "the prefix is given, not generated", index, far, near);
  if (task == PosGenTask::kRecursive || task == PosGenTask::kCot) return generated == 0;
  return generated % 2 == 0;
}

PosGen::PosGen(const PosGenOptions& options) : options_(options) {
  if (options.far > kMostSeeds || options.near > kMostSeeds || options.modulus > kMostPrefixes / 4 ||
      options.length > kLongest || options.count > kMostPrefixes)
    fail(ExitCode::kUsage,
         "modulus {} far {} near {} length {} count {} are out of reach, posgen, give far and near of at most {}, a "
         "length of at most {}",
         options.modulus, options.far, options.near, options.length, options.count, kMostSeeds, kLongest);
  const int64_t seeds = options.far + options.near;
  if (options.modulus < 2 || options.far < 1 || options.near < 1)
    fail(ExitCode::kUsage, "modulus {} far {} near {}, posgen, give modulus of at least 2, far and near of at least 1",
         options.modulus, options.far, options.near);
  if (options.length <= seeds)
    fail(ExitCode::kUsage, "length {} leaves nothing to generate, posgen, give more than far + near = {}",
         options.length, seeds);
  if (options.count < 0) fail(ExitCode::kUsage, "count {}, posgen, give 0 or more", options.count);

  if (options.prefixes == PosGenPrefixes::kReference) {
    prefixes_ = available_ = binomial(options.modulus, seeds);
    if (prefixes_ == 0)
      fail(ExitCode::kUsage, "no ascending prefix of {} digits below {}, posgen prefixes=reference, raise modulus",
           seeds, options.modulus);
    first_ = options.split == PosGenSplit::kTest ? 1000 : 0;
    return;
  }
  prefixes_ = 1;
  for (int64_t i = 0; i < seeds; ++i) prefixes_ = saturating_product(prefixes_, options.modulus);
  if (prefixes_ == kMostPrefixes)
    fail(ExitCode::kUsage, "modulus^(far+near) is more than 2^62 prefixes, posgen, lower modulus, far or near");
  const int64_t held_out = prefixes_ / 10;
  const int64_t training = prefixes_ - 2 * held_out;
  first_ = options.split == PosGenSplit::kTrain ? 0 : training + (options.split == PosGenSplit::kTest ? held_out : 0);
  available_ = options.split == PosGenSplit::kTrain ? training : held_out;
  if (options.count > available_)
    fail(ExitCode::kUsage,
         "count {} is more than the {} prefixes of this split, posgen, ask for fewer or raise modulus", options.count,
         available_);
}

std::vector<int64_t> PosGen::prefix(int64_t index) const {
  CHECK(0 <= index && index < options_.count, "no such sequence", index, options_.count);
  const int64_t seeds = options_.far + options_.near;
  if (options_.prefixes == PosGenPrefixes::kReference)
    return ascending_tuple((first_ + index) % prefixes_, options_.modulus, seeds);
  int64_t number = permuted(first_ + index, prefixes_, options_.seed);
  std::vector<int64_t> digits(static_cast<size_t>(seeds));
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, number /= options_.modulus)
    *digit = number % options_.modulus;
  return digits;
}

std::vector<int64_t> PosGen::tokens(int64_t index) const {
  std::vector<int64_t> sequence =
      posgen_sequence(options_.task, options_.modulus, options_.far, options_.near, prefix(index), options_.length);
  sequence.insert(sequence.begin(), posgen_eos(options_.modulus));
  return sequence;
}

std::vector<int64_t> PosGen::loss_mask() const {
  std::vector<int64_t> mask(static_cast<size_t>(1 + options_.length), 1);
  std::fill_n(mask.begin(), 1 + options_.far + options_.near, 0);
  return mask;
}

void write_posgen(const PosGenOptions& options, const std::string& path) {
  const PosGen posgen(options);
  const std::string mask = fmt::format("],\"loss_mask\":[{}]}}\n", fmt::join(posgen.loss_mask(), ","));
  OutputFile file(path);
  for (int64_t i = 0; i < options.count; ++i)
    file.write(fmt::format("{{\"tokens\":[{}{}", fmt::join(posgen.tokens(i), ","), mask));
  file.commit();
}

}  // namespace carillon
