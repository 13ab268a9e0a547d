#include "parallel/optimizer/sharded_optimizer.h"

#include <algorithm>
#include <cmath>

#include "parallel/injected_fault.h"

namespace carillon {
namespace {

std::vector<int64_t> row_counts(int64_t rows, const Communicator& dp_cp) {
  std::vector<int64_t> counts;
  for (int rank = 0; rank < dp_cp.size(); ++rank) counts.push_back(share_of(rows, dp_cp.size(), rank).size());
  return counts;
}

// Returns rows `own` of a rectangle, as a rectangle of the global tensor.
Rectangle rows_of(Rectangle rectangle, Range own) {
  rectangle.offset[0] += own.begin;
  rectangle.extent[0] = own.size();
  return rectangle;
}

}  // namespace

ShardedOptimizer::ShardedOptimizer(Backend& backend, ProcessGrid& grid, std::vector<ParameterShard> parameters,
                                   const Options& options, Arena& arena, Arena* host)
    : backend_(backend), grid_(grid), options_(options), parameters_(std::move(parameters)) {
  CHECK(0 <= options.zero && options.zero <= 2, "ZeRO stage 0, 1 or 2", options.zero);
  CHECK(!options.offload || host != nullptr, "an offloaded optimizer needs host memory");
  Arena& lasting = options.offload ? *host : arena;
  for (const ParameterShard& parameter : parameters_) {
    const int64_t rows = parameter.weight.size(0);
    State state;
    state.own = options.zero == 0 ? Range{0, rows} : share_of(rows, grid.dp_cp->size(), grid.dp_cp->rank());
    const DType type = accumulate_type(parameter.weight.dtype());
    std::vector<int64_t> shape = parameter.weight.shape();
    shape[0] = state.own.size();
    state.master = parameter.weight.dtype() == type ? parameter.weight.rows(state.own.begin, state.own.end)
                                                    : lasting.allocate("optimizer.master", type, shape);
    state.exp_avg = lasting.allocate("optimizer.exp_avg", type, shape);
    state.exp_avg_sq = lasting.allocate("optimizer.exp_avg_sq", type, shape);
    state.gradient = options.zero == 2 ? arena.allocate("gradients.shard", type, shape)
                                       : parameter.gradient.rows(state.own.begin, state.own.end);
    groups_[parameter.group].push_back(states_.size());
    states_.push_back(state);
  }
  if (!options.offload || parameters_.empty()) return;
  int64_t longest = 0;
  for (const State& state : states_) longest = std::max(longest, state.exp_avg.count());
  stream_.emplace(backend, accumulate_type(parameters_.front().weight.dtype()),
                  std::max<int64_t>(1, std::min(longest, options.offload_chunk)), arena);
  if (!arena.measuring()) list_chunks();
}

// Every parameter gets a chunk, even an empty one: a rank that owns none of its rows still takes part in gathering it.
void ShardedOptimizer::list_chunks() {
  for (size_t i = 0; i < states_.size(); ++i) {
    const State& state = states_[i];
    const int64_t count = state.exp_avg.count();
    int64_t begin = 0;
    do {
      const int64_t end = std::min(begin + stream_->elements(), count);
      chunks_.push_back({i, begin, end, end == count});
      StateStream::Chunk tensors;
      for (const Tensor& whole : {state.exp_avg, state.exp_avg_sq})
        tensors.push_back(whole.reshape({count}).rows(begin, end));
      if (own_master(state, i)) tensors.push_back(state.master.reshape({count}).rows(begin, end));
      chunk_tensors_.push_back(std::move(tensors));
      begin = end;
    } while (begin < count);
  }
}

void ShardedOptimizer::start_from_weights() {
  updates_ = 0;
  if (stream_) {
    stream_->run(chunk_tensors_, /*bring=*/false, [&](size_t index, const StateStream::Chunk& state) {
      const auto& [parameter, begin, end, last] = chunks_[index];
      const Range own = states_[parameter].own;
      backend_.fill(state[0], 0);
      backend_.fill(state[1], 0);
      if (state.size() < 3) return;
      const Tensor weight = parameters_[parameter].weight.rows(own.begin, own.end);
      backend_.copy(state[2], weight.reshape({weight.count()}).rows(begin, end));
    });
    return;
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const State& state = states_[i];
    const Tensor own = parameters_[i].weight.rows(state.own.begin, state.own.end);
    if (own.raw() != state.master.raw()) backend_.copy(state.master, own);
    backend_.fill(state.exp_avg, 0);
    backend_.fill(state.exp_avg_sq, 0);
  }
}

void ShardedOptimizer::zero_gradients() {
  finish_reductions();  // of an abandoned step
  gradients_hold_ = false;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].overwritten) backend_.fill(parameters_[i].gradient, 0);
    if (options_.zero == 2) backend_.fill(states_[i].gradient, 0);
  }
}

void ShardedOptimizer::begin_micro_step(bool last) {
  finish_reductions();  // at stage 2, those of the previous micro-step
  last_micro_step_ = last;
  groups_reduced_ = 0;
}

void ShardedOptimizer::group_done(int64_t group) {
  if (options_.zero != 2 && !last_micro_step_) return;
  start_reduction(group);
  // The next layer writes its gradients where those of the layer before this one are.
  while (options_.zero == 2 && under_way_.size() > 1) finish_oldest_reduction();
}

void ShardedOptimizer::after_micro_step() {
  group_done(-1);
  gradients_hold_ = options_.zero != 2;
}

Communicator& ShardedOptimizer::replicas_of(const ParameterShard& parameter) {
  if (parameter.tp_replicas == grid_.tp->size()) return *grid_.tp;
  CHECK(parameter.tp_replicas == grid_.kv_replicas->size(), "no group of so many replicas", parameter.name,
        parameter.tp_replicas);
  return *grid_.kv_replicas;
}

bool ShardedOptimizer::first_replica(const ParameterShard& parameter) const {
  return grid_.tp_rank % parameter.tp_replicas == 0;
}

// One call for all gradients of a group, and one for those that are partial over tp. The sum over dp_cp comes first, so
// that the sum over tp replicas covers the owned rows only; the second may be started while the first is in flight
// (communicator.h). At stage 2 the sum over dp_cp goes into this rank's rows of the full gradient (no other rank reads
// them), and from there to the shard.
void ShardedOptimizer::start_reduction(int64_t group) {
  const auto members = groups_.find(group);
  if (members == groups_.end()) return;
  ++groups_reduced_;
  Bucket bucket{&members->second, {}};
  Communicator& dp_cp = *grid_.dp_cp;
  if (options_.zero == 0) {
    std::vector<Tensor> gradients;
    for (const size_t i : members->second) gradients.push_back(parameters_[i].gradient);
    bucket.transfers.push_back(dp_cp.start_all_reduces(gradients, Reduction::kSum));
  } else {
    std::vector<Communicator::ReduceScatter> parts;
    for (const size_t i : members->second) {
      const Tensor full = parameters_[i].gradient;
      const Range own = states_[i].own;
      parts.push_back({full.rows(own.begin, own.end), full, row_counts(full.size(0), dp_cp)});
    }
    bucket.transfers.push_back(dp_cp.start_reduce_scatters(parts));
  }
  if (options_.zero != 2) start_replica_sums(bucket);
  under_way_.push_back(std::move(bucket));
}

void ShardedOptimizer::start_replica_sums(Bucket& bucket) {
  if (injected(InjectedFault::kReplicatedGradientNotSummed)) return;
  std::map<Communicator*, std::vector<Tensor>> partial;
  for (const size_t i : *bucket.parameters)
    if (parameters_[i].tp_replicas > 1 && parameters_[i].tp_partial)
      partial[&replicas_of(parameters_[i])].push_back(states_[i].gradient);
  for (Communicator* replicas : {grid_.tp.get(), grid_.kv_replicas.get()})  // the same order on all ranks
    if (const auto found = partial.find(replicas); found != partial.end())
      bucket.transfers.push_back(replicas->start_all_reduces(found->second, Reduction::kSum));
}

void ShardedOptimizer::finish_oldest_reduction() {
  Bucket bucket = std::move(under_way_.front());
  under_way_.pop_front();
  wait(bucket);
  if (options_.zero != 2) return;
  for (const size_t i : *bucket.parameters) {
    const Tensor full = parameters_[i].gradient;
    backend_.add(states_[i].gradient, full.rows(states_[i].own.begin, states_[i].own.end));
    if (!parameters_[i].overwritten) backend_.fill(full, 0);
  }
  if (!last_micro_step_) return;
  start_replica_sums(bucket);
  replica_sums_.push_back(std::move(bucket));
}

void ShardedOptimizer::finish_reductions() {
  while (!under_way_.empty()) finish_oldest_reduction();
  for (Bucket& bucket : replica_sums_) wait(bucket);
  replica_sums_.clear();
}

void ShardedOptimizer::wait(Bucket& bucket) {
  for (const auto& transfer : bucket.transfers)
    if (!injected(InjectedFault::kGradientsNotAwaited)) transfer->wait();
  bucket.transfers.clear();
}

// Counts every parameter once: only on the first of its tp replicas. At stage 0 every dp_cp rank has the whole
// gradient, so the sum goes over tp only.
double ShardedOptimizer::gradient_norm(double divisor) {
  std::vector<Tensor> gradients;
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (first_replica(parameters_[i]) || injected(InjectedFault::kNormCountsReplicas))
      gradients.push_back(states_[i].gradient);
  double squares = backend_.sum_of_squares(gradients);
  squares = options_.zero == 0 ? grid_.tp->sum(squares) : grid_.world->sum(squares);
  return std::sqrt(squares) / divisor;
}

void ShardedOptimizer::update_through_stream(const AdamWStep& step) {
  stream_->run(chunk_tensors_, /*bring=*/true, [&](size_t index, const StateStream::Chunk& state) {
    const auto& [i, begin, end, last] = chunks_[index];
    const ParameterShard& parameter = parameters_[i];
    const Range own = states_[i].own;
    const Tensor rows = parameter.weight.rows(own.begin, own.end);
    const Tensor weight = rows.reshape({rows.count()}).rows(begin, end);
    const Tensor gradient = states_[i].gradient.reshape({rows.count()}).rows(begin, end);
    const AdamWTensors chunk{weight,          state.size() < 3 ? weight : state[2], state[0], state[1], gradient,
                             parameter.decays};
    if (end > begin) backend_.adamw(std::span(&chunk, 1), step);
    if (last && options_.zero > 0) gather_weight(parameter, states_[i]);
  });
}

void ShardedOptimizer::update(const AdamWStep& step) {
  if (stream_) {
    update_through_stream(step);
    return;
  }
  std::vector<AdamWTensors> tensors;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const State& state = states_[i];
    tensors.push_back({parameters_[i].weight.rows(state.own.begin, state.own.end), state.master, state.exp_avg,
                       state.exp_avg_sq, state.gradient, parameters_[i].decays});
  }
  backend_.adamw(tensors, step);
  if (options_.zero == 0) return;
  for (size_t i = 0; i < parameters_.size(); ++i) gather_weight(parameters_[i], states_[i]);
}

void ShardedOptimizer::gather_weight(const ParameterShard& parameter, const State& state) {
  Communicator& dp_cp = *grid_.dp_cp;
  if (dp_cp.size() == 1) return;
  const bool keeps_old = injected(InjectedFault::kWeightsNotGathered) && dp_cp.rank() == dp_cp.size() - 1;
  Buffer before;
  if (keeps_old) {
    before = backend_.allocate(parameter.weight.bytes());
    backend_.copy(Tensor(before.data(), parameter.weight.dtype(), parameter.weight.shape()), parameter.weight);
  }
  dp_cp.all_gather(parameter.weight, parameter.weight.rows(state.own.begin, state.own.end),
                   row_counts(parameter.weight.size(0), dp_cp));
  if (keeps_old)
    backend_.copy(parameter.weight, Tensor(before.data(), parameter.weight.dtype(), parameter.weight.shape()));
}

ShardedOptimizer::StepResult ShardedOptimizer::step(double divisor, double learning_rate, double beta1) {
  CHECK(divisor > 0, "a step without targets makes no update", divisor);
  if (injected(InjectedFault::kGradientAveraged)) divisor *= grid_.dp_cp->size();
  CHECK(last_micro_step_ && groups_reduced_ == groups_.size(), "a step ends with its last micro-step, whole",
        groups_reduced_, groups_.size());
  finish_reductions();
  last_micro_step_ = false;
  StepResult result;
  result.gradient_norm = gradient_norm(divisor);
  if (!std::isfinite(result.gradient_norm)) return result;
  AdamWStep step;
  step.learning_rate = learning_rate;
  step.beta1 = beta1;
  step.beta2 = options_.beta2;
  step.epsilon = options_.epsilon;
  step.weight_decay = options_.weight_decay;
  step.step = ++updates_;
  const double clip =
      options_.max_grad_norm ? std::min(1.0, *options_.max_grad_norm / (result.gradient_norm + 1e-6)) : 1.0;
  step.gradient_scale = clip / divisor;
  update(step);
  result.updated = true;
  return result;
}

std::vector<NamedShard> ShardedOptimizer::state_shards() {
  std::vector<NamedShard> shards;
  const bool owner = options_.zero > 0 || grid_.dp_cp->rank() == 0;
  const auto add = [&](const char* group, size_t index, Tensor data) {
    const ParameterShard& parameter = parameters_[index];
    shards.push_back({std::string("optimizer/") + group + "/" + parameter.name,
                      rows_of(parameter.rectangle, states_[index].own), data, owner && first_replica(parameter),
                      stream_ || backend_.unified() ? nullptr : &backend_});  // offloaded state is in host memory
  };
  for (size_t i = 0; i < parameters_.size(); ++i) {
    add("exp_avg", i, states_[i].exp_avg);
    add("exp_avg_sq", i, states_[i].exp_avg_sq);
    if (own_master(states_[i], i)) add("master", i, states_[i].master);
  }
  return shards;
}

}  // namespace carillon
