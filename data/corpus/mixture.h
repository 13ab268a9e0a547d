// The order in which sequences are drawn from several weighted sources: deterministic and as even as whole sequences
// allow. With w_i = weight_i / (sum of the weights), source i has been drawn more than n·w_i − 1 and fewer than n·w_i +
// 1 times after any n draws.
//
// Draw j of a source (from 0) may happen from draw ⌊j/w⌋ of the mixture on and must happen by draw ⌈(j+1)/w⌉. Each draw
// goes to the source with the earliest deadline among those that may be drawn. This is proportionate fairness on one
// processor (Baruah, Cohen, Plaxton and Varvel, Algorithmica 15, 1996), for which earliest deadline first misses no
// deadline. The more obvious rule, to take the source that lags most, lets one of many sources fall behind by more than
// one draw. Weights are decimal numbers and everything is computed in integers, so nothing drifts however long a run
// is. The order is periodic; the period is the sum of the weights after scaling them to the smallest whole numbers.
//
// The source of a draw is a pure function of the draw's number. It is found by replaying the draws from the nearest of
// a few saved states.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace carillon {

class Mixture {
 public:
  // Requires at least one weight, all > 0. Throws error 64, naming `where`, if their sum in units of the last decimal
  // place has more than 18 digits.
  Mixture(const std::vector<double>& weights, const std::string& where);

  struct Draw {
    size_t source = 0;
    int64_t count = 0;  // earlier draws of this source
  };
  Draw at(int64_t number);

  // The number of draws in a period, and how many of them each source gets: 7, 2, 1 for weights 0.7, 0.2, 0.1.
  int64_t period() const { return period_; }
  const std::vector<int64_t>& shares() const { return shares_; }

 private:
  struct State {
    int64_t number = 0;                      // draws made in this period
    std::vector<int64_t> counts;             // draws of each source
    std::vector<int64_t> release, deadline;  // of each source's next draw
  };
  void prepare(State& state, size_t source) const;
  size_t next_source(const State& state) const;
  void advance(State& state);

  std::vector<int64_t> shares_;
  int64_t period_ = 0;
  State state_;
  std::vector<State> marks_;  // mark m is the state before draw m · kMark of the period
};

}  // namespace carillon
