// In which order sequences are drawn from several sources by their weights: deterministic and as even as whole
// sequences allow. With w_i = weight_i / (sum of the weights), source i has been drawn more than n·w_i − 1 and fewer
// than n·w_i + 1 times after any n draws.
//
// Draw j of a source (from 0) may be made from draw ⌊j/w⌋ of all on and must be by draw ⌈(j+1)/w⌉; each draw goes to
// the source whose next one must be made first, among those whose next one may. This is proportionate fairness on one
// processor (Baruah, Cohen, Plaxton and Varvel, Algorithmica 15, 1996), for which earliest deadline first misses no
// deadline. Taking the source that lags most, the more obvious rule, lets one of many sources fall behind by more than
// one. Weights are decimal numbers, and all of it is computed in integers: nothing drifts, however long a run is, and
// after as many draws as the weights' smallest whole multiples add up to, it starts again.
//
// The place of a draw is a pure function of its number. It is found by making the draws before it, from the nearest of
// a few marks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace carillon {

class Mixture {
 public:
  // Weights > 0, at least one. Error 64, naming `where`, when their sum in units of their last decimal has more than 18
  // digits.
  Mixture(const std::vector<double>& weights, const std::string& where);

  struct Draw {
    size_t source = 0;
    int64_t count = 0;  // draws of this source before it
  };
  Draw at(int64_t number);

  // Draws after which it starts again, and of these the ones of each source: 7, 2, 1 for weights 0.7, 0.2, 0.1.
  int64_t period() const { return period_; }
  const std::vector<int64_t>& shares() const { return shares_; }

 private:
  struct State {
    int64_t number = 0;                      // draws made, of this period
    std::vector<int64_t> counts;             // of each source
    std::vector<int64_t> release, deadline;  // of each source's next draw
  };
  void prepare(State& state, size_t source) const;
  size_t next_source(const State& state) const;
  void advance(State& state);

  std::vector<int64_t> shares_;
  int64_t period_ = 0;
  State state_;
  std::vector<State> marks_;  // mark m is before draw m · kMark of the period
};

}  // namespace carillon
