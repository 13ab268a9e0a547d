// Who reads what in a ring, and so what has to travel. Pure arithmetic on a table every rank of the ring holds alike,
// so that all ranks skip the same hops. Ring of W ranks; at step j (0 … W-1) rank r works on the block of source (r +
// j) mod W, and in hop j (between steps j and j+1) blocks move down, from rank r to rank r-1 (mod W).
//
// A half travels until the last rank that reads it and no further. For plain causal attention over zigzag that gives:
// an early half goes all the way round (W-1 hops), the late half of source s stops at rank 0 (s hops).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace carillon {

// A choice among the two halves of a block.
struct Halves {
  bool early = false;
  bool late = false;
  bool has(int half) const { return half == 0 ? early : late; }
  bool any() const { return early || late; }
  int count() const { return (early ? 1 : 0) + (late ? 1 : 0); }
};

class RingSchedule {
 public:
  explicit RingSchedule(int ranks);

  int ranks() const { return ranks_; }
  // reads[rank][2·source + half] != 0 when some query of `rank` sees a key of that half; [W, 2W], own blocks are
  // ignored.
  void set(const std::vector<int64_t>& reads);

  int source(int rank, int step) const { return (rank + step) % ranks_; }
  // The rank that works on the block of `source` at `step`.
  int reader(int source, int step) const { return ((source - step) % ranks_ + ranks_) % ranks_; }

  Halves read(int rank, int step) const;    // what rank reads of its block at this step (step >= 1)
  Halves carried(int rank, int hop) const;  // what rank sends down in this hop: somebody further on reads it
  // What rank hands down of dK, dV after working at this step (>= 1): begun by it or a rank before it, not yet
  // complete.
  Halves gradient_carried(int rank, int step) const;
  // What is complete after rank has worked at this step: goes straight home to source(rank, step).
  Halves gradient_finished(int rank, int step) const;

  // Whether any rank sends: only then is the exchange started, by all.
  bool any_carried(int hop) const;
  bool any_gradient_carried(int step) const;
  bool any_gradient_finished(int step) const;

  // Halves put on the wire in one forward pass: keys and values, and in one backward pass: dK and dV; all ranks
  // together.
  int64_t key_halves() const;
  int64_t gradient_halves() const;

 private:
  struct Span {
    int first = 0;  // steps of the first and the last reader; 0: nobody reads it
    int last = 0;
  };
  const Span& span(int source, int half) const { return spans_[static_cast<size_t>(2 * source + half)]; }
  bool reads(int rank, int source, int half) const {
    return reads_[static_cast<size_t>(rank) * 2 * ranks_ + 2 * source + half] != 0;
  }
  template <class Condition>
  Halves choose(int rank, int step, Condition condition) const;
  template <class Member>
  bool any(int step, Member member) const;

  int ranks_;
  std::vector<int64_t> reads_;
  std::vector<Span> spans_;
};

}  // namespace carillon
