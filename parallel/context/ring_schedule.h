// Which rank reads which halves in a ring, and therefore what has to travel. Pure arithmetic on a table that is the
// same on every rank of the ring, so that all ranks skip the same hops.
//
// W ranks in O nodes of I neighbours each (I = W: one flat ring): rank r is neighbour r mod I of node r / I. Step t, 0
// … W-1, is inner step t mod I of stage t / I. In stage o node x works on the blocks of node (x + o) mod O. Each rank
// begins the stage with the base block, which is the block of its counterpart on that node, and an inner ring passes
// all of the node's blocks around: they move down, from neighbour y to y-1 (mod I), in inner hop j between inner steps
// j and j+1. Base blocks move down a node, from node x to x-1 (mod O), in outer hop o, which may take all of stage o.
// Every pair of ranks meets once.
//
// A half travels to the last rank that reads it and no further, in each inner ring and between nodes. For plain causal
// attention over zigzag an early half goes to every rank (W-1 hops, O-1 of them between nodes), and the late half of
// source s stops at rank 0 (s hops).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace carillon {

// A subset of the two halves of a block.
struct Halves {
  bool early = false;
  bool late = false;
  bool has(int half) const { return half == 0 ? early : late; }
  bool any() const { return early || late; }
  int count() const { return (early ? 1 : 0) + (late ? 1 : 0); }
};

class RingSchedule {
 public:
  // inner: I, which divides `ranks`; 0: one ring.
  explicit RingSchedule(int ranks, int inner = 0);

  int ranks() const { return ranks_; }
  int inner() const { return inner_; }                  // I
  int stages() const { return ranks_ / inner_; }        // O
  int base(int stage) const { return stage * inner_; }  // its first step
  // reads[rank][2·source + half] != 0 if some query of `rank` sees a key of that half; [W, 2W]. Entries of own blocks
  // are ignored.
  void set(const std::vector<int64_t>& reads);

  // Whose block `rank` works on at `step`, and which rank works on the block of `source` then.
  int source(int rank, int step) const { return shifted(rank, step / inner_, step % inner_); }
  int reader(int source, int step) const { return shifted(source, -(step / inner_), -(step % inner_)); }
  // Neighbours in the inner ring, and counterparts on the next nodes.
  int below(int rank) const { return shifted(rank, 0, -1); }
  int above(int rank) const { return shifted(rank, 0, 1); }
  int outer_below(int rank) const { return shifted(rank, -1, 0); }
  int outer_above(int rank) const { return shifted(rank, 1, 0); }
  // The neighbour whose base block of the stage is the block that `rank` works on at `step`.
  int collector(int rank, int step) const { return shifted(rank, 0, step % inner_); }

  Halves read(int rank, int step) const;     // what rank reads of its block at this step (≥ 1)
  Halves carried(int rank, int step) const;  // what it sends down in the inner hop after it: a later rank reads it
  // What rank sends down of dK, dV after working at this step (≥ 1): the sum was started by it or by a neighbour before
  // it, and is not yet complete for this stage.
  Halves gradient_carried(int rank, int step) const;
  // What is complete for this stage once rank has worked at this step. It goes straight to collector(rank, step), which
  // in stage 0 owns the block.
  Halves gradient_finished(int rank, int step) const;

  Halves outer_carried(int rank, int stage) const;  // the part of the base block that goes down a node in this stage
  Halves collected(int rank, int stage) const;  // the part of the base block that the node's ranks read in this stage
  // What rank sends down a node of dK, dV of its base block once this stage (≥ 1) is collected; and what is complete
  // then and goes straight home to source(rank, base(stage)).
  Halves outer_gradient_carried(int rank, int stage) const;
  Halves outer_gradient_finished(int rank, int stage) const;

  // Whether any rank sends. Only then do all ranks start the exchange.
  bool any_carried(int step) const;
  bool any_gradient_carried(int step) const;
  bool any_gradient_finished(int step) const;
  bool any_outer_carried(int stage) const;
  bool any_outer_gradient_carried(int stage) const;
  bool any_outer_gradient_finished(int stage) const;

  // Halves sent in one forward pass (keys and values) and in one backward pass (dK and dV) by all ranks together,
  // inside nodes and between them.
  struct Wire {
    int64_t inner = 0;
    int64_t outer = 0;
    int64_t all() const { return inner + outer; }
  };
  Wire key_halves() const;
  Wire gradient_halves() const;

 private:
  // The first and the last reader, as inner steps of a stage or as stages.
  struct Span {
    int first = 1;
    int last = 0;
    bool any() const { return first <= last; }
    bool on_the_way(int at) const { return first <= at && at < last; }
    bool ends(int at) const { return any() && at == last; }
    void add(int at) {
      if (!any()) first = at;
      last = at;
    }
  };
  int shifted(int rank, int nodes, int neighbours) const;
  const Span& within(int source, int half, int stage) const {
    return within_[static_cast<size_t>((2 * source + half) * stages() + stage)];
  }
  const Span& between(int source, int half) const { return between_[static_cast<size_t>(2 * source + half)]; }
  bool reads(int rank, int source, int half) const {
    return reads_[static_cast<size_t>(rank) * 2 * ranks_ + 2 * source + half] != 0;
  }
  template <class Condition>
  Halves choose(int rank, int step, Condition condition) const;
  template <class Member>
  bool any(int at, Member member) const;

  int ranks_;
  int inner_;
  std::vector<int64_t> reads_;
  std::vector<Span> within_;   // of each half and stage; excludes the half's owner
  std::vector<Span> between_;  // of each half; stages from 1 on
};

}  // namespace carillon
