// LongRoPE's search (Ding et al., 2402.13753, section 3.3): divisors of the rotary pairs' frequencies, found by
// evolution with the model's perplexity on long documents as fitness. A candidate is a list of divisors that never
// decreases from a pair to the next slower one, each from 1 to 1.25 times the factor, in steps.
//
// A pure function of its options and of the losses it is told: numbers are counter-based, so a search that is begun
// again asks for the same candidates in the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace carillon {

struct RopeSearchOptions {
  int64_t population = 64;
  int64_t iterations = 40;   // generations after the first
  int64_t parents = 32;      // the best of all so far, from which the next generation comes
  int64_t mutations = 16;    // of its candidates by changing a parent,
  int64_t crossovers = 16;   // and by mixing two
  double probability = 0.3;  // of a divisor to be changed
  double step = 0.01;        // what changed divisors are multiples of
  uint64_t seed = 42;
};

using RopeFactors = std::vector<double>;

struct RopeCandidate {
  RopeFactors factors;
  double loss = 0;
};

class RopeSearch {
 public:
  // `seeds`: candidates of the first generation, the one to fill it up from by mutation first. Each is moved into the
  // bounds and made to increase. `factor`: how much further than the trained length.
  RopeSearch(const RopeSearchOptions& options, double factor, const std::vector<RopeFactors>& seeds);

  // Loss of a candidate that was not asked for before; not a number counts as the worst.
  using Loss = std::function<double(int64_t iteration, const RopeFactors& factors)>;
  // The best of all, after it the others that were looked at.
  std::vector<RopeCandidate> run(const Loss& loss);

 private:
  RopeFactors within_bounds(RopeFactors factors) const;
  RopeFactors mutated(const RopeFactors& parent);
  // Nothing when no mixture of them increases in twenty draws.
  RopeFactors crossed(const RopeFactors& one, const RopeFactors& other);
  double uniform();
  size_t below(size_t bound);

  RopeSearchOptions options_;
  double largest_;
  std::vector<RopeFactors> seeds_;
  uint64_t drawn_ = 0;
};

}  // namespace carillon
