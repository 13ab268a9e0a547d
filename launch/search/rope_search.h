// LongRoPE's search (Ding et al., 2402.13753, section 3.3): finds divisors of the rotary pairs' frequencies by
// evolution, with the model's perplexity on long documents as fitness. A candidate is a list of divisors that never
// decreases from one pair to the next slower one. Each divisor is between 1 and 1.25 times the factor, in steps.
//
// The search is a pure function of its options and of the losses it receives: random numbers are counter-based, so a
// restarted search requests the same candidates in the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace carillon {

struct RopeSearchOptions {
  int64_t population = 64;
  int64_t iterations = 40;   // generations after the first
  int64_t parents = 32;      // the best so far, from which the next generation is made
  int64_t mutations = 16;    // candidates made by changing one parent
  int64_t crossovers = 16;   // candidates made by mixing two
  double probability = 0.3;  // of each divisor to change
  double step = 0.01;        // changed divisors are multiples of this
  uint64_t seed = 42;
};

using RopeFactors = std::vector<double>;

struct RopeCandidate {
  RopeFactors factors;
  double loss = 0;
};

class RopeSearch {
 public:
  // `seeds`: candidates of the first generation; mutations of the first one fill up the rest. Each is moved into the
  // bounds and made to increase. `factor`: the target length over the trained length.
  RopeSearch(const RopeSearchOptions& options, double factor, const std::vector<RopeFactors>& seeds);

  // Returns the loss of a candidate that was not requested before; NaN counts as the worst.
  using Loss = std::function<double(int64_t iteration, const RopeFactors& factors)>;
  // Returns the best candidate, followed by the others that were evaluated.
  std::vector<RopeCandidate> run(const Loss& loss);

 private:
  RopeFactors within_bounds(RopeFactors factors) const;
  RopeFactors mutated(const RopeFactors& parent);
  // Returns nothing if no mixture of them increases in twenty attempts.
  RopeFactors crossed(const RopeFactors& one, const RopeFactors& other);
  double uniform();
  size_t below(size_t bound);

  RopeSearchOptions options_;
  double largest_;
  std::vector<RopeFactors> seeds_;
  uint64_t drawn_ = 0;
};

}  // namespace carillon
