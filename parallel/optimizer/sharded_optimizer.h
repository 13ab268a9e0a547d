// AdamW over a list of parameters. Its state is split by rows over dp_cp (ZeRO stages 1 and 2) or whole on every rank
// (0).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "parallel/optimizer/adamw_settings.h"
#include "parallel/optimizer/parameter_shard.h"
#include "parallel/optimizer/state_stream.h"

namespace carillon {

class ShardedOptimizer {
 public:
  struct Options : AdamWSettings {
    int zero = 1;          // 0 | 1 | 2
    bool offload = false;  // master weights and moments in host memory: state_stream.h
    // Elements that pass through the device at a time: copies long enough for the full rate of a link, while the six
    // buffers (96 MiB) are negligible in any memory plan.
    int64_t offload_chunk = int64_t{4} << 20;
  };
  // Allocates moments and, at stage 2, gradient shards from `arena`, and master weights if T is bfloat16 (otherwise the
  // weight itself is the master). With `offload` masters and moments come from `host`. Touches no memory: the arenas
  // may be measuring.
  ShardedOptimizer(Backend& backend, ProcessGrid& grid, std::vector<ParameterShard> parameters, const Options& options,
                   Arena& arena, Arena* host = nullptr);

  // Sets the masters to the current weights, the moments to 0 and the number of updates to 0. Call it after
  // initialising or importing a model.
  void start_from_weights();

  // Call it before the first micro-step of a step. Clears the gradients and, at stage 2, also the owners' shards; skips
  // gradients that the next backward pass overwrites.
  void zero_gradients();
  // Whether the next backward pass must add to the gradients of ParameterShard::overwritten instead of overwriting
  // them. False for the first one of a step, and at stage 2 for every one.
  bool must_accumulate() const { return gradients_hold_; }
  // Call it before each micro-step; `last` marks the last one of a step.
  void begin_micro_step(bool last);
  // Call it when the gradients of this group (ParameterShard::group, a layer) are complete for this micro-step. Starts
  // their reduction: at stage 2 in every micro-step, otherwise in the last. They must not be touched until step(). At
  // stage 2 the previous group has been added to the owners' shards when this returns, and its memory may be written
  // again. So the gradient memory of two layers serves all layers, double-buffered. Collective.
  void group_done(int64_t group);
  // Call it after each micro-step: the same for the parameters without a group (-1). Collective.
  void after_micro_step();

  struct StepResult {
    double gradient_norm = 0;  // of the gradient divided by `divisor`, before clipping; non-finite: no update was made
    bool updated = false;
  };
  // Waits for the reductions of the last micro-step, divides by `divisor` (the sum of target weights over the whole
  // step), clips, updates with `learning_rate` and `beta1` (which a schedule may change), and gathers the weights.
  // Collective over all ranks.
  StepResult step(double divisor, double learning_rate, double beta1);

  int64_t updates() const { return updates_; }  // AdamW's step count (skipped steps do not count)
  void set_updates(int64_t updates) { updates_ = updates; }

  // This rank's rectangles of the datasets optimizer/exp_avg/NAME, optimizer/exp_avg_sq/NAME and optimizer/master/NAME;
  // replicas are marked as not owned. The same list is used to save and to load. With `offload` the tensors are in host
  // memory.
  std::vector<NamedShard> state_shards();

 private:
  // The optimizer's part of one parameter: rows `own` of this tp rank's rectangle.
  struct State {
    Range own;
    Tensor master;      // A; a view of the weight's rows when T is A
    Tensor exp_avg;     // A
    Tensor exp_avg_sq;  // A
    Tensor gradient;    // A: at stage 2 a separate shard, otherwise rows of the full gradient
  };
  Communicator& replicas_of(const ParameterShard& parameter);
  bool first_replica(const ParameterShard& parameter) const;
  // Transfers in flight for the gradients of one group.
  struct Bucket {
    const std::vector<size_t>* parameters;
    std::vector<std::unique_ptr<Communicator::Transfer>> transfers;
  };
  void start_reduction(int64_t group);
  void start_replica_sums(Bucket& bucket);
  void finish_oldest_reduction();
  void finish_reductions();
  static void wait(Bucket& bucket);
  double gradient_norm(double divisor);
  void update(const AdamWStep& step);
  void gather_weight(const ParameterShard& parameter, const State& state);
  bool own_master(const State& state, size_t index) const {  // false: the weight is its own master
    return state.master.dtype() != parameters_[index].weight.dtype();
  }
  void list_chunks();
  void update_through_stream(const AdamWStep& step);

  Backend& backend_;
  ProcessGrid& grid_;
  Options options_;
  std::vector<ParameterShard> parameters_;
  std::vector<State> states_;
  std::map<int64_t, std::vector<size_t>> groups_;  // indices of parameters by group, in order
  std::deque<Bucket> under_way_;                   // oldest first
  std::deque<Bucket> replica_sums_;                // stage 2: sums of shards over tp replicas, in the last micro-step
  bool last_micro_step_ = false;
  size_t groups_reduced_ = 0;  // of this micro-step
  bool gradients_hold_ = false;
  int64_t updates_ = 0;

  // With `offload`: elements [begin, end) of a parameter's own rows.
  struct ChunkOf {
    size_t parameter;
    int64_t begin, end;
    bool last;  // of this parameter
  };
  std::optional<StateStream> stream_;
  std::vector<ChunkOf> chunks_;
  std::vector<StateStream::Chunk> chunk_tensors_;  // exp_avg, exp_avg_sq and, if there is one, master
};

}  // namespace carillon
