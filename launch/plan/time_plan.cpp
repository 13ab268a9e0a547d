#include "launch/plan/time_plan.h"

#include <algorithm>
#include <cmath>

#include "parallel/tensor/row_shards.h"

namespace carillon {
namespace {

constexpr DType kFallbacks[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat64};

// The profile's rates, with something said where it has none.
class Rates {
 public:
  Rates(const MachineProfile& profile, DType compute, std::vector<std::string>& assumptions)
      : profile_(profile), product_type_(compute), attention_type_(compute) {
    const auto measured = [](const auto& map, DType type) { return map.contains(type) && !map.at(type).empty(); };
    const auto choose = [&](const auto& map, DType& type, const char* what) {
      if (measured(map, type)) return true;
      for (const DType other : kFallbacks)
        if (measured(map, other)) {
          assumptions.push_back(fmt::format("{} has no {} of {}: those of {} are taken", profile.name, what,
                                            carillon::name_of(type), carillon::name_of(other)));
          type = other;
          return true;
        }
      return false;
    };
    if (!choose(profile.products, product_type_, "products"))
      fail(ExitCode::kBadInput, "no product was measured, in the machine profile {}, run carillon bench", profile.name);
    has_attention_ = choose(profile.attention, attention_type_, "attention");
    if (!has_attention_)
      assumptions.push_back(fmt::format("{} has no attention: half the product rate is taken", profile.name));
  }

  double product(int64_t rows, int64_t inner, int64_t columns) const {
    return profile_.product_rate(product_type_, rows, inner, columns);
  }
  double attention(int64_t head_dim, int64_t length, bool backward) const {
    return has_attention_ ? profile_.attention_rate(attention_type_, head_dim, length, backward)
                          : product(length, head_dim, length) / 2;
  }
  double best_product() const {
    double best = 0;
    for (const ProductRate& rate : profile_.products.at(product_type_)) best = std::max(best, rate.flops_per_second);
    return best;
  }

 private:
  const MachineProfile& profile_;
  DType product_type_, attention_type_;
  bool has_attention_ = false;
};

double seconds_on(const Link& link, double bytes, double messages) {
  if (bytes == 0 && messages == 0) return 0;
  return (link.bytes_per_second > 0 ? bytes / link.bytes_per_second : 0) + messages * link.latency_seconds;
}

// Seconds and FLOP of a list of products.
struct Products {
  double seconds = 0, flops = 0;
  Products(const std::vector<PlannedProduct>& list, const Rates& rates) {
    for (const PlannedProduct& product : list) {
      if (product.rows == 0 || product.inner == 0 || product.columns == 0) continue;
      seconds += product.flops() / rates.product(product.rows, product.inner, product.columns);
      flops += product.flops();
    }
  }
};

// What the hops of a flat ring, or of an inner ring, go over.
const Link& inner_link(const PlannedRun& run, const PlannedMachine& machine) {
  const int64_t ranks = run.grid.ring_inner == 0 ? run.grid.context : run.grid.ring_inner;
  return machine.link(ranks * run.grid.tensor);
}

RingTime ring_time(const WorkPlan& work, const PlannedRun& run, const PlannedMachine& machine, int64_t head_dim,
                   double rate, bool backward) {
  RingTime time;
  const Link& link = inner_link(run, machine);
  const Link& outer = machine.link(int64_t{run.grid.context} * run.grid.tensor);
  const bool overlaps = machine.profile.device != "cpu";
  // Causal attention over S tokens is S²/2 pairs: 4 FLOP a pair and channel forward, 10 backward.
  const double pair_flops = (backward ? 10.0 : 4.0) * static_cast<double>(head_dim * work.attention_batch_heads);
  for (const RingStep& step : work.ring.steps) {
    const double compute = static_cast<double>(step.pairs) * pair_flops / rate;
    const double bytes = static_cast<double>(step.key_bytes + (backward ? step.gradient_bytes : 0));
    const double messages = (step.key_bytes > 0 ? 1 : 0) + (backward && step.gradient_bytes > 0 ? 1 : 0);
    const double outer_bytes = static_cast<double>(step.outer_key_bytes + (backward ? step.outer_gradient_bytes : 0));
    const double outer_messages =
        (step.outer_key_bytes > 0 ? 1 : 0) + (backward && step.outer_gradient_bytes > 0 ? 1 : 0);
    // Of two levels a step's piece goes between nodes after the inner hop: one group's exchanges take turns.
    const double hop = seconds_on(link, bytes, messages) + seconds_on(outer, outer_bytes, outer_messages);
    time.compute += compute;
    time.hops += hop;
    time.exposed += overlaps ? std::max(0.0, hop - compute) : hop;
    if (&step == &work.ring.steps.front()) time.room = std::max(0.0, compute - hop);
    // The last step of a backward pass has nothing to hide behind, at any length.
    if (step.pairs > 0) time.uncovered += std::max(0.0, hop - compute);
  }
  return time;
}

// A product and the exchange of what it takes or gives, in chunks that travel while the others are computed (T5 and T6
// of the project's parallelism reference): what the exchange adds. The first chunk of a gather, the last of a scatter
// has nothing beside it.
double exposed_beside(double exchange, double product, double chunks) {
  return exchange / chunks + (chunks - 1) * std::max(0.0, exchange - product) / chunks;
}

// As model/block.cpp has them.
TensorTime tensor_time(const WorkPlan& work, const Rates& rates, const PlannedRun& run, const PlannedMachine& machine,
                       double layers, double attention_backward) {
  TensorTime time;
  time.chunks = work.tensor_chunks;
  if (run.grid.tensor == 1 || layers == 0) return time;
  const double chunks = static_cast<double>(work.tensor_chunks);
  const double exchange = seconds_on(machine.link(run.grid.tensor), work.tensor_exchange_bytes,
                                     chunks * static_cast<double>(run.grid.tensor - 1));
  time.exchanges = work.tensor_layer_exchanges * exchange;
  if (machine.profile.device == "cpu") {
    time.exposed = time.exchanges;
    return time;
  }
  const auto seconds = [&](const PlannedProduct& product) { return Products({product}, rates).seconds / layers; };
  for (const auto* products : {&work.forward, &work.redone})
    for (const PlannedProduct& product : *products) time.exposed += exposed_beside(exchange, seconds(product), chunks);
  enum { kQkv, kOut, kGateUp, kDown };
  const auto by_input = [&](int layer) { return seconds(work.backward[static_cast<size_t>(2 * layer)]); };
  const auto by_weight = [&](int layer) { return seconds(work.backward[static_cast<size_t>(2 * layer + 1)]); };
  // The gather of the gradient, then that of the norm's output, wanted when the other's weight has its gradient; the
  // scatter goes on while the gradient by the gathered one's weight is computed.
  const auto branch = [&](int first, int second, double more) {
    time.exposed += exposed_beside(exchange, by_input(first), chunks);
    time.exposed += std::max(0.0, exchange - by_weight(first) - more);
    time.exposed += std::max(0.0, exposed_beside(exchange, by_input(second), chunks) - by_weight(second));
  };
  branch(kDown, kGateUp, 0);
  branch(kOut, kQkv, attention_backward);
  return time;
}

// Tokens n a rank needs for a hop to take no longer than the attention of n²/2 pairs: 2·n·NKV·HD keys and values, and
// as many gradients, and the link's latency. Without latency it depends neither on the batch nor on the head's width.
// `steps`: of attention that one hop has.
int64_t tokens_to_hide(const ModelConfig& model, const WorkPlan& work, const PlannedRun& run,
                       const PlannedMachine& machine, const TensorShards& shards, double rate, bool backward,
                       double steps = 1) {
  if (work.ring.steps.size() < 2) return 0;
  const Link& link = machine.link(int64_t{run.grid.context} * run.grid.tensor);
  if (link.bytes_per_second <= 0) return 0;
  const double narrow = static_cast<double>(size_of(run.network.compute));
  const double wide = static_cast<double>(size_of(accumulate_type(run.network.compute)));
  const double sequences = static_cast<double>(run.network.batch), width = static_cast<double>(model.head_dim);
  // compute · n² >= transfer · n + latency
  const double compute = steps * (backward ? 5.0 : 2.0) * sequences * static_cast<double>(shards.heads) * width / rate;
  // Two levels: beside each inner hop a piece of a block between nodes.
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

// Seconds of a backward pass's reductions that its compute does not hide. `room`: of a layer's backward pass. Nothing
// else waits for a reduction (`free`): what one layer does not hide the next ones may.
double exposed_reductions(double head, double layer, double embedding, double room, int64_t layers, bool free) {
  double exposed = 0, under_way = head;
  for (int64_t index = layers - 1; index >= 0; --index) {
    const double left = std::max(0.0, under_way - room);
    exposed += free ? 0 : left;
    under_way = (free ? left : 0) + layer;
  }
  return exposed + under_way + embedding;
}

}  // namespace

std::vector<std::pair<std::string, double>> StepTime::terms() const {
  return {{"products forward", linear_forward},
          {"products backward", linear_backward},
          {"products again", linear_redone},
          {"head and loss", loss},
          {"attention forward", attention_forward},
          {"attention backward", attention_backward},
          {"attention again", attention_redone},
          {"elementwise", elementwise},
          {"ring hops", ring},
          {"tensor collectives", tensor},
          {"host copies", offload},
          {"gradients and weights", gradients},
          {"optimizer", optimizer}};
}

int64_t planned_tensor_chunks(const PlannedRun& run, const PlannedMachine& machine) {
  const int64_t tensor = run.grid.tensor;
  return RowShards(run.rows(), tensor, tensor_chunks(run.rows() / tensor, tensor, machine.profile.device != "cpu"))
      .chunks();
}

StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine) {
  require_tensor_parallel(model, run.grid.tensor);
  return plan_step(model, run, machine, plan_work(model, run, planned_tensor_chunks(run, machine)));
}

StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                   const WorkPlan& work) {
  StepTime time;
  const Rates rates(machine.profile, run.network.compute, time.assumptions);
  const MachineProfile& profile = machine.profile;
  const double micro_steps = static_cast<double>(run.accumulation),
               layers = static_cast<double>(model.num_hidden_layers);
  const TensorShards shards(model, run.grid.tensor, 0);
  const double moving = profile.memory_bytes_per_second;
  if (moving <= 0) time.assumptions.push_back(profile.name + " has no memory rate: elementwise ops are taken for free");
  if (run.grid.size() > 1) {
    if (machine.crosses_nodes(run.grid.size()) && profile.between_nodes.bytes_per_second <= 0)
      time.assumptions.push_back(profile.name + " has no link between nodes: the one inside a node is taken");
    if (machine.link(run.grid.size()).bytes_per_second <= 0)
      time.assumptions.push_back(profile.name + " has no link between ranks: exchanges are taken for free");
  }
  const auto move = [&](double bytes) { return moving > 0 ? bytes / moving : 0; };

  const Products forward(work.forward, rates), backward(work.backward, rates), redone(work.redone, rates),
      loss(work.loss, rates);
  time.linear_forward = micro_steps * forward.seconds;
  time.linear_backward = micro_steps * backward.seconds;
  time.linear_redone = micro_steps * redone.seconds;
  time.loss = micro_steps * loss.seconds;

  const int64_t local = run.layout().local();
  const double forward_rate = rates.attention(model.head_dim, local, false);
  const double backward_rate = rates.attention(model.head_dim, local, true);
  time.forward_ring = ring_time(work, run, machine, model.head_dim, forward_rate, false);
  time.backward_ring = ring_time(work, run, machine, model.head_dim, backward_rate, true);
  time.forward_ring.tokens_to_hide = tokens_to_hide(model, work, run, machine, shards, forward_rate, false);
  time.backward_ring.tokens_to_hide = tokens_to_hide(model, work, run, machine, shards, backward_rate, true);
  // Ranks of a ring on one node: it is a ring of rings when they are some, but not all.
  const int64_t inner = machine.ranks_per_node / run.grid.tensor;
  if (run.grid.ring_inner == 0 && inner > 1 && inner < run.grid.context) {
    const auto two_level = [&](double rate, bool of_backward) {
      return tokens_to_hide(model, work, run, machine, shards, rate, of_backward, static_cast<double>(inner));
    };
    time.forward_ring.tokens_to_hide_two_level = two_level(forward_rate, false);
    time.backward_ring.tokens_to_hide_two_level = two_level(backward_rate, true);
  }
  time.attention_forward = micro_steps * layers * time.forward_ring.compute;
  time.attention_backward = micro_steps * layers * time.backward_ring.compute;
  time.attention_redone = (work.forward_rings - 1) * time.attention_forward;
  time.ring = micro_steps * layers * (work.forward_rings * time.forward_ring.exposed + time.backward_ring.exposed);

  // Only what runs on the device's arithmetic hides a copy: elementwise ops want the same memory.
  const Link& host = profile.host;
  if (host.bytes_per_second <= 0 && work.offloaded_layer_bytes + work.offloaded_state_bytes > 0)
    time.assumptions.push_back(profile.name + " has no link to the host: copies are taken for free");
  time.offload_forward = forward.seconds / layers + time.forward_ring.compute;
  time.offload_backward = (backward.seconds + redone.seconds) / layers + time.backward_ring.compute +
                          (work.forward_rings - 1) * time.forward_ring.compute;
  if (work.offloaded_layers > 0) {
    time.offload_copy = seconds_on(host, work.offloaded_layer_bytes, run.network.recompute == Recompute::kFull ? 1 : 3);
    time.offload = micro_steps * work.offloaded_layers *
                   (std::max(0.0, time.offload_copy - time.offload_forward) +
                    std::max(0.0, time.offload_copy - time.offload_backward));
  }
  if (work.offloaded_state_bytes > 0)
    time.offload += seconds_on(host, work.offloaded_state_bytes, static_cast<double>(work.parameter_tensors));

  time.elementwise = micro_steps * (move(work.moved_bytes) + work.ops * profile.op_seconds);
  time.tensor_layer = tensor_time(work, rates, run, machine, layers, time.backward_ring.compute);
  const double exchanges = layers * work.tensor_layer_exchanges;  // of the layers; the rest travels beside nothing
  time.tensor =
      micro_steps *
      (layers * time.tensor_layer.exposed +
       seconds_on(machine.link(run.grid.tensor), work.tensor_bytes - exchanges * work.tensor_exchange_bytes,
                  (work.tensor_calls - exchanges * static_cast<double>(work.tensor_chunks)) * (run.grid.tensor - 1)));

  const int64_t dp_cp = int64_t{run.grid.data} * run.grid.context;
  if (dp_cp > 1) {
    const bool gpu = profile.device != "cpu", ring = run.grid.context > 1, zero2 = run.network.optimizer.zero == 2;
    const Link& link = machine.link(run.grid.size());
    // A device's bucket is one launch.
    const auto bucket = [&](const WorkPlan::Bucket& part) {
      return seconds_on(link, part.bytes, static_cast<double>((gpu ? 1 : part.tensors) * (dp_cp - 1)));
    };
    const double head = bucket(work.head_gradients), embedding = bucket(work.embedding_gradients);
    time.reduction_layer = bucket(work.layer_gradients);
    if (gpu && run.grid.tensor == 1)
      time.reduction_room = ring ? Products(work.before_ring, rates).seconds / layers +
                                       (work.forward_rings == 2 ? time.forward_ring : time.backward_ring).room
                                 : time.offload_backward;
    const double reductions = zero2 ? micro_steps : 1;
    time.reduction = reductions * (head + layers * time.reduction_layer + embedding);
    time.reduction_exposed =
        reductions * exposed_reductions(head, time.reduction_layer, embedding, time.reduction_room,
                                        model.num_hidden_layers, /*free=*/run.grid.tensor == 1 && !ring && !zero2);
    time.gradients = time.reduction_exposed +
                     (work.weight_bytes > 0 ? seconds_on(link, work.weight_bytes,
                                                         static_cast<double>(work.parameter_tensors * (dp_cp - 1)))
                                            : 0);
  }
  // Gradients are zeroed one by one; their norm is one op, the update too unless its state passes by in chunks.
  const int64_t updates = work.offloaded_state_bytes > 0 ? work.parameter_tensors : 1;
  time.optimizer =
      move(work.optimizer_moved_bytes) + static_cast<double>(work.parameter_tensors + 1 + updates) * profile.op_seconds;

  double longest = -1;
  for (const auto& [name, seconds] : time.terms()) {
    time.seconds += seconds;
    if (seconds > longest) longest = seconds, time.limiting = name;
  }

  const double tokens = static_cast<double>(run.tokens()), ranks = static_cast<double>(run.grid.size());
  time.useful_flops = useful_flops_per_token(model, run.network.sequence_length) * tokens;
  const double pairs = static_cast<double>(work.ring.pairs() * work.attention_batch_heads * model.head_dim) * layers;
  time.hardware_flops =
      ranks * micro_steps *
      (forward.flops + backward.flops + redone.flops + loss.flops + pairs * (4 * work.forward_rings + 10));
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
