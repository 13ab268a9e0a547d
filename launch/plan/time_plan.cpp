#include "launch/plan/time_plan.h"

#include <algorithm>
#include <cmath>

#include "launch/plan/step_clock.h"
#include "launch/plan/step_counts.h"
#include "launch/plan/useful_work.h"

namespace carillon {
namespace {

// The link of the hops of a flat ring or of an inner ring.
const Link& inner_link(const PlannedRun& run, const PlannedMachine& machine) {
  const int64_t ranks = run.grid.ring_inner == 0 ? run.grid.context : run.grid.ring_inner;
  return machine.link(ranks * run.grid.tensor);
}

// Returns the tokens n per rank for which a hop takes no longer than the attention of n²/2 pairs: 2·n·NKV·HD keys and
// values, as many gradients, and the link's latency. Without latency it depends neither on the batch nor on the head
// size. `steps`: attention steps per hop.
int64_t tokens_to_hide(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                       const TensorShards& shards, double rate, bool backward, double steps = 1) {
  if (run.grid.context < 2) return 0;
  const Link& link = machine.link(int64_t{run.grid.context} * run.grid.tensor);
  if (link.bytes_per_second <= 0) return 0;
  const double narrow = static_cast<double>(size_of(run.network.compute));
  const double wide = static_cast<double>(size_of(accumulate_type(run.network.compute)));
  const double sequences = static_cast<double>(run.network.batch), width = static_cast<double>(model.head_dim);
  // compute · n² >= transfer · n + latency
  const double compute = steps * (backward ? 5.0 : 2.0) * sequences * static_cast<double>(shards.heads) * width / rate;
  // Two levels: together with each inner hop, a piece of a block is sent between nodes.
  const double inner = run.grid.ring_inner;
  const Link& within = inner_link(run, machine);
  const double seconds_a_byte = inner == 0 || within.bytes_per_second <= 0
                                    ? 1 / link.bytes_per_second
                                    : 1 / within.bytes_per_second + 1 / (inner * link.bytes_per_second);
  const double transfer =
      2 * sequences * static_cast<double>(shards.kv_heads) * width * (narrow + (backward ? wide : 0)) * seconds_a_byte;
  const double latency = (backward ? 2 : 1) * (link.latency_seconds + (inner == 0 ? 0 : within.latency_seconds));
  return static_cast<int64_t>(
      std::ceil((transfer + std::sqrt(transfer * transfer + 4 * compute * latency)) / (2 * compute)));
}

// Returns the seconds of a whole step. The last but one of the recorded micro-steps represents those left out.
StepSeconds seconds_of(const StepRecord& record, const PlannedMachine& machine, const Rates& rates) {
  StepSeconds all;
  StepClock clock(machine, rates);
  const auto recorded = static_cast<int64_t>(record.micro_steps.size());
  for (int64_t i = 0; i < recorded; ++i)
    all.add(clock.run(record.micro_steps[static_cast<size_t>(i)]),
            i + 2 == recorded ? static_cast<double>(record.accumulation - recorded + 1) : 1);
  return all;
}

RingTime ring_time(const StepSeconds& sums, std::initializer_list<StepPart> parts) {
  RingTime time;
  double passes = 0;
  for (const StepPart which : parts) {
    const auto part = static_cast<size_t>(which), ring = static_cast<size_t>(Exchange::kRing);
    passes += sums.passes[part];
    time.compute += sums.attention[part];
    time.hops += sums.exchange[ring][part];
    time.exposed += sums.exposed[ring][part];
    time.uncovered += sums.uncovered[part];
    time.bytes += sums.bytes[ring][part];
  }
  for (double* sum : {&time.compute, &time.hops, &time.exposed, &time.uncovered, &time.bytes})
    *sum = passes > 0 ? *sum / passes : 0;
  return time;
}

double& of(StepSeconds::ByPart& parts, StepPart part) { return parts[static_cast<size_t>(part)]; }

}  // namespace

std::vector<std::pair<std::string, double>> StepTime::terms() const {
  return {{"products forward", linear_forward},
          {"products backward", linear_backward},
          {"products recomputed", linear_recomputed},
          {"head and loss", loss},
          {"attention forward", attention_forward},
          {"attention backward", attention_backward},
          {"attention recomputed", attention_recomputed},
          {"elementwise", elementwise},
          {"ring hops", ring},
          {"tensor collectives", tensor},
          {"host copies", offload},
          {"gradients and weights", gradients},
          {"optimizer", optimizer}};
}

StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine) {
  const bool beside_compute = machine.profile.device != "cpu";
  return plan_step(model, run, machine, record_step(model, run, recorded_rank(run), beside_compute));
}

StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                   const StepRecord& record) {
  StepTime time;
  const Rates rates(machine.profile, run.network.compute, run.fused_attention, time.assumptions);
  const MachineProfile& profile = machine.profile;
  const double moving = profile.memory_bytes_per_second;
  if (moving <= 0) time.assumptions.push_back(profile.name + " has no memory rate: elementwise ops are taken for free");
  if (run.grid.size() > 1) {
    if (machine.crosses_nodes(run.grid.size()) && profile.between_nodes.bytes_per_second <= 0)
      time.assumptions.push_back(profile.name + " has no link between nodes: the one inside a node is taken");
    if (machine.link(run.grid.size()).bytes_per_second <= 0)
      time.assumptions.push_back(profile.name + " has no link between ranks: exchanges are taken for free");
  }
  if (run.network.offload != Offload::kNone && profile.host.bytes_per_second <= 0)
    time.assumptions.push_back(profile.name + " has no link to the host: copies are taken for free");
  const auto move = [&](double bytes) { return moving > 0 ? bytes / moving : 0; };

  const auto engine_of = [&](bool backward) -> std::string {
    if (profile.device != "cuda") return "";
    bool own = false, fused = false;
    for (const auto& micro_step : record.micro_steps)
      for (const StepEvent& event : micro_step.events)
        if (event.kind == StepEvent::Kind::kAttention && (event.part == StepPart::kBackward) == backward)
          (event.fused ? fused : own) = true;
    return !fused ? "native" : own ? "cudnn and native" : "cudnn";
  };
  time.forward_engine = engine_of(false), time.backward_engine = engine_of(true);

  StepSeconds sums = seconds_of(record, machine, rates);
  time.linear_forward = of(sums.products, StepPart::kForward);
  time.linear_backward = of(sums.products, StepPart::kBackward);
  time.linear_recomputed = of(sums.products, StepPart::kRecompute);
  time.loss = of(sums.products, StepPart::kLoss);
  time.attention_forward = of(sums.attention, StepPart::kForward);
  time.attention_backward = of(sums.attention, StepPart::kBackward);
  time.attention_recomputed = of(sums.attention, StepPart::kRecompute);
  time.elementwise = move(sums.moved_bytes) + sums.calls * profile.op_seconds;
  time.optimizer = move(sums.update_moved_bytes) + sums.update_calls * profile.op_seconds;
  time.ring = sums.all(sums.exposed, Exchange::kRing);
  time.tensor = sums.all(sums.exposed, Exchange::kTensor);
  time.offload = sums.all(sums.exposed, Exchange::kToHost) + sums.all(sums.exposed, Exchange::kToDevice);
  time.reduction = sums.all(sums.exchange, Exchange::kReduction);
  time.reduction_exposed = sums.all(sums.exposed, Exchange::kReduction);
  time.gradients = time.reduction_exposed + sums.all(sums.exposed, Exchange::kWeights);

  time.forward_ring = ring_time(sums, {StepPart::kForward, StepPart::kRecompute});
  time.backward_ring = ring_time(sums, {StepPart::kBackward});
  const TensorShards shards(model, run.grid.tensor, 0);
  const int64_t local = run.layout().local();
  const double forward_rate = rates.attention(model.head_dim, local, false, run.fused_attention);
  const double backward_rate = rates.attention(model.head_dim, local, true, run.fused_attention);
  time.forward_ring.tokens_to_hide = tokens_to_hide(model, run, machine, shards, forward_rate, false);
  time.backward_ring.tokens_to_hide = tokens_to_hide(model, run, machine, shards, backward_rate, true);
  // Ranks of a ring on one node. If they are some but not all, two levels are possible.
  const int64_t inner = machine.ranks_per_node / run.grid.tensor;
  if (run.grid.ring_inner == 0 && inner > 1 && inner < run.grid.context) {
    const auto two_level = [&](double rate, bool of_backward) {
      return tokens_to_hide(model, run, machine, shards, rate, of_backward, static_cast<double>(inner));
    };
    time.forward_ring.tokens_to_hide_two_level = two_level(forward_rate, false);
    time.backward_ring.tokens_to_hide_two_level = two_level(backward_rate, true);
  }

  const double micro_steps = static_cast<double>(record.accumulation);
  time.tensor_exchanges = {record.tensor_chunks, sums.all(sums.exchange, Exchange::kTensor) / micro_steps,
                           time.tensor / micro_steps};
  HostCopyTime& copies = time.host_copies;
  StepSeconds::ByPart& to_host = sums.bytes[static_cast<size_t>(Exchange::kToHost)];
  copies.state_bytes = of(to_host, StepPart::kUpdate);
  copies.checkpoint_bytes = StepSeconds::sum(to_host) - copies.state_bytes;
  StepSeconds::ByPart& seconds = sums.exchange[static_cast<size_t>(Exchange::kToHost)];
  copies.checkpoints = StepSeconds::sum(seconds) - of(seconds, StepPart::kUpdate);
  copies.beside = StepSeconds::sum(sums.products) - time.loss + StepSeconds::sum(sums.attention);
  copies.checkpoints_exposed = time.offload;
  for (const Exchange way : {Exchange::kToHost, Exchange::kToDevice})
    copies.checkpoints_exposed -= of(sums.exposed[static_cast<size_t>(way)], StepPart::kUpdate);

  double longest = -1;
  for (const auto& [name, term] : time.terms()) {
    time.seconds += term;
    if (term > longest) longest = term, time.limiting = name;
  }

  const double tokens = static_cast<double>(run.tokens()), ranks = static_cast<double>(run.grid.size());
  time.useful_flops = useful_flops_per_token(model, run.network.sequence_length) * tokens;
  time.hardware_flops = ranks * StepSeconds::sum(sums.flop);
  time.tokens_per_second = tokens / time.seconds;
  time.tokens_per_day = time.tokens_per_second * 86400;
  time.product_rate = rates.best_product();
  time.product_rate_fraction = time.useful_flops / (time.seconds * ranks * time.product_rate);
  if (const auto peak = profile.peak_flops_per_second.find(run.network.compute);
      peak != profile.peak_flops_per_second.end()) {
    time.peak_rate = peak->second;
    time.peak_fraction = time.useful_flops / (time.seconds * ranks * time.peak_rate);
  }
  return time;
}

}  // namespace carillon
