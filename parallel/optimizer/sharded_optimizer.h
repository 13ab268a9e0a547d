// AdamW over a list of parameters, its state split by rows over dp_cp (ZeRO stage 1 and 2) or whole on every rank (0).
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
    // Elements that pass through the device at a time: copies long enough for a link's full rate, six of which (96 MiB)
    // no plan notices.
    int64_t offload_chunk = int64_t{4} << 20;
  };
  // Allocates master weights (when T is bfloat16; otherwise the weight itself is the master where that saves memory),
  // moments and, at stage 2, gradient shards from `arena`; with `offload` masters and moments from `host`. Touches no
  // memory: the arenas may be measuring.
  ShardedOptimizer(Backend& backend, ProcessGrid& grid, std::vector<ParameterShard> parameters, const Options& options,
                   Arena& arena, Arena* host = nullptr);

  // Masters = the weights as they are now, moments 0, no updates yet. After initialising or importing a model.
  void start_from_weights();

  // Before the first micro-step of a step. At stage 2 the full gradients and the owners' shards, else the gradients;
  // but not those that the next backward pass overwrites.
  void zero_gradients();
  // Whether the next backward pass adds to the gradients of ParameterShard::overwritten, or overwrites them: the first
  // of a step, and at stage 2 every one.
  bool gradients_hold() const { return gradients_hold_; }
  // Before each micro-step; `last` of its step?
  void begin_micro_step(bool last);
  // The gradients of the parameters of this group (ParameterShard::group, a layer) are complete for this micro-step:
  // their reduction starts, at stage 2 in every micro-step, else in the last. Until step() nobody may touch them. At
  // stage 2 the group before has then been added to the owners' shards and may be written again, so two layers'
  // gradient memory serves all layers, double-buffered. Collective.
  void group_done(int64_t group);
  // After each micro-step: the same for the parameters of no group (-1). Collective.
  void after_micro_step();

  struct StepResult {
    double gradient_norm = 0;  // of the gradient divided by `divisor`, before clipping; non-finite: no update was made
    bool updated = false;
  };
  // Waits for the reductions of the last micro-step, divides by `divisor` (the sum of target weights over the whole
  // step), clips, updates with `learning_rate` (and beta1 if the schedule moves it), gathers weights. Collective over
  // all ranks.
  StepResult step(double divisor, double learning_rate, double beta1);

  int64_t updates() const { return updates_; }  // AdamW's step count (skipped steps do not count)
  void set_updates(int64_t updates) { updates_ = updates; }

  // Dataset paths optimizer/exp_avg/NAME, optimizer/exp_avg_sq/NAME, optimizer/master/NAME and this rank's rectangles;
  // replicas are marked not owned. The same list serves saving and loading. With `offload` the tensors are in host
  // memory.
  std::vector<NamedShard> state_shards();

 private:
  // The optimizer's part of one parameter: rows `own` of this tp rank's rectangle.
  struct State {
    Range own;
    Tensor master;      // A; a view of the weight's rows when T is A
    Tensor exp_avg;     // A
    Tensor exp_avg_sq;  // A
    Tensor gradient;    // A: stage 2 a shard of its own, else the rows of the full gradient
  };
  Communicator& replicas_of(const ParameterShard& parameter);
  bool first_replica(const ParameterShard& parameter) const;
  // What is under way for the gradients of one group.
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
  std::map<int64_t, std::vector<size_t>> groups_;  // parameters by group, in their order
  std::deque<Bucket> under_way_;                   // oldest first
  std::deque<Bucket> replica_sums_;                // stage 2: of shards, in the last micro-step
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
  std::vector<StateStream::Chunk> chunk_tensors_;  // exp_avg, exp_avg_sq and, where there is one, master
};

}  // namespace carillon
