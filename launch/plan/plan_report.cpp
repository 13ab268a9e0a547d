#include "launch/plan/plan_report.h"

#include <algorithm>

#include "launch/training_evaluator.h"

namespace carillon {
namespace {

std::string layout_word(LayoutKind kind) { return kind == LayoutKind::kZigzag ? "zigzag" : "contiguous"; }

Json by_name(const std::vector<std::pair<std::string, int64_t>>& list) {
  Json object = Json::object();
  for (const auto& [name, bytes] : list) object[name] = bytes;
  return object;
}

Json json_of(const RingTime& ring, int64_t bytes) {
  return {{"compute", ring.compute},
          {"hops", ring.hops},
          {"exposed", ring.exposed},
          {"tokens_to_hide", ring.tokens_to_hide},
          {"tokens_to_hide_two_level", ring.tokens_to_hide_two_level},
          {"bytes", bytes}};
}

Json json_of(const PlannedRun& run) {
  return {{"data", run.grid.data},
          {"context", run.grid.context},
          {"tensor", run.grid.tensor},
          {"ring_inner", run.grid.ring_inner == 0 ? Json() : Json(run.grid.ring_inner)},
          {"zero", run.network.optimizer.zero},
          {"recompute", name_of(run.network.recompute)},
          {"offload", name_of(run.network.offload)},
          {"mlp_tile", run.network.mlp_tile == 0 ? Json() : Json(run.network.mlp_tile)},
          {"kind", layout_word(run.network.layout)},
          {"dtype", name_of(run.network.compute)},
          {"sequence_length", run.network.sequence_length},
          {"tokens_per_rank", run.layout().local()},
          {"micro_batch_size", run.network.batch},
          {"gradient_accumulation_steps", run.accumulation},
          {"sequences_per_step", run.sequences()},
          {"tokens_per_step", run.tokens()}};
}

int64_t ranks_of_a_node(const PlannedMachine& machine) { return std::min(machine.ranks_per_node, machine.ranks()); }

Json memory_json(const Plan& plan) {
  Json groups = Json::array();
  for (const RankGroup& group : plan.groups)
    groups.push_back({{"name", group.name},
                      {"ranks", group.ranks},
                      {"peak_bytes", group.memory.total},
                      {"host_bytes", group.memory.host},
                      {"by_role", by_name(group.memory.roles)}});
  const RankMemory& memory = plan.groups.front().memory;
  return {{"peak_bytes", memory.total},
          {"dealt_bytes", memory.dealt},
          {"host_bytes", memory.host},
          {"host_by_role", by_name(memory.host_roles)},
          {"host_node_bytes", memory.host * ranks_of_a_node(plan.machine)},
          {"by_role", by_name(memory.roles)},
          {"tensors", by_name(memory.tensors)},
          {"groups", groups},
          {"longest_sequence", plan.longest}};
}

// All the times stand on: the program's ways first, then the profile's figures, then what it lacks.
std::vector<std::string> assumptions_of(const Plan& plan) {
  const bool cpu = plan.machine.profile.device == "cpu";
  std::vector<std::string> list = {
      "one document a sequence, nothing padded or masked (a longer document is cut into sequences, data.packing)",
      "the reduction of gradients is counted, none of it behind compute",
      cpu ? "ring hops run on the cores that compute, so never hidden"
          : "ring hops run behind attention of the same step, which leaves them room; what is longer is counted"};
  if (plan.run->grid.tensor > 1)
    list.push_back(cpu ? "exchanges over tensor ranks run on the cores that compute, so never hidden"
                       : fmt::format("exchanges over tensor ranks travel in {} chunk{} beside the products of the "
                                     "other chunks and by weights, which leave them room; the first of a gather, the "
                                     "last of a scatter and what is longer are counted",
                                     plan.work->tensor_chunks, plan.work->tensor_chunks == 1 ? "" : "s"));
  if (!cpu && plan.run->network.offload != Offload::kNone)
    list.emplace_back(
        "copies to and from the host run both ways at once behind a layer's products and attention; the optimizer's "
        "behind nothing");
  for (const std::string& figure : plan.machine.profile.assumptions)
    list.push_back(plan.machine.profile.name + ": " + figure);
  list.insert(list.end(), plan.time->assumptions.begin(), plan.time->assumptions.end());
  return list;
}

Json time_json(const Plan& plan) {
  const StepTime& time = *plan.time;
  Json terms = Json::object();
  for (const auto& [name, seconds] : time.terms()) terms[name] = seconds;
  return {{"seconds", time.seconds},
          {"terms", terms},
          {"limiting", time.limiting},
          {"tokens_per_second", time.tokens_per_second},
          {"tokens_per_day", time.tokens_per_day},
          {"useful_flops", time.useful_flops},
          {"hardware_flops", time.hardware_flops},
          {"product_rate", time.product_rate},
          {"product_rate_fraction", time.product_rate_fraction},
          {"peak_rate", time.peak_rate == 0 ? Json() : Json(time.peak_rate)},
          {"mfu", time.peak_rate == 0 ? Json() : Json(time.peak_fraction)},
          {"assumptions", assumptions_of(plan)},
          {"offload",
           {{"layer_copy", time.offload_copy},
            {"layer_forward", time.offload_forward},
            {"layer_backward", time.offload_backward},
            {"layers", plan.work->offloaded_layers},
            {"state_bytes", plan.work->offloaded_state_bytes}}},
          {"tensor",
           {{"chunks", time.tensor_layer.chunks},
            {"exchanges", time.tensor_layer.exchanges},
            {"exposed", time.tensor_layer.exposed}}},
          {"ring",
           {{"forward", json_of(time.forward_ring, plan.work->ring.forward_bytes)},
            {"backward", json_of(time.backward_ring, plan.work->ring.backward_bytes)}}}};
}

Json counts_json(const Plan& plan) {
  const bool device = plan.machine.profile.device == "cuda";
  const auto of_device = [device](int64_t number) { return device ? Json(number) : Json(); };
  Json list = Json::array();
  for (const StepCounts& counts : plan.counts) {
    Json axes = Json::object();
    for (const auto& [name, axis] : counts.axes) axes[name] = {{"bytes", axis.bytes}, {"calls", axis.calls}};
    list.push_back({{"rank", list.size()},
                    {"ops", counts.device.ops},
                    {"launches", of_device(counts.device.launches)},
                    {"products", of_device(counts.device.products)},
                    {"allocations", of_device(counts.device.allocations)},
                    {"to_device_bytes", of_device(counts.device.to_device_bytes)},
                    {"to_host_bytes", of_device(counts.device.to_host_bytes)},
                    {"nccl_operations", of_device(counts.nccl_operations)},
                    {"nccl_sent_bytes", of_device(counts.nccl_sent_bytes)},
                    {"communication", axes}});
  }
  return list;
}

std::vector<std::string> train_arguments(const PlanConfig& config, const PlannedRun& run) {
  std::vector<std::pair<std::string, std::string>> layout = {
      {"parallel.data", fmt::format("{}", run.grid.data)},
      {"parallel.context", fmt::format("{}", run.grid.context)},
      {"parallel.tensor", fmt::format("{}", run.grid.tensor)},
      {"parallel.zero", fmt::format("{}", run.network.optimizer.zero)},
      {"train.recompute", name_of(run.network.recompute)},
      {"train.gradient_accumulation_steps", fmt::format("{}", run.accumulation)}};
  // Named where the file or the person says otherwise: their plain values are the defaults.
  const TrainSection& given = config.run.train;
  if (run.network.offload != Offload::kNone || given.offload != Offload::kNone)
    layout.emplace_back("train.offload", name_of(run.network.offload));
  if (const int64_t tile = run.network.mlp_tile; tile > 0)
    layout.emplace_back("train.mlp_tile", fmt::format("{}", tile));
  else if (given.mlp_tile)
    layout.emplace_back("train.mlp_tile", "~");
  std::vector<std::string> arguments{config.path};
  for (const std::string& argument : config.overrides) {
    const auto same = [&](const auto& key) { return argument.starts_with(key.first + "="); };
    if (std::none_of(layout.begin(), layout.end(), same)) arguments.push_back(argument);
  }
  for (const auto& [key, value] : layout) arguments.push_back(key + "=" + value);
  return arguments;
}

double gibibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

std::string readable(int64_t bytes) {
  return bytes >= (int64_t{1} << 30) ? fmt::format("{:.2f} GiB", gibibytes(bytes))
                                     : fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string memory_text(const Plan& plan) {
  const RankMemory& memory = plan.groups.front().memory;
  std::string text = "\nmemory of the fullest rank\n";
  for (const auto& [role, bytes] : memory.roles)
    if (bytes > 0) text += fmt::format("  {:<18} {:>12}\n", role, readable(bytes));
  const int64_t whole = plan.machine.profile.memory_bytes;
  text += fmt::format("  {:<18} {:>12}{}\n", "peak", readable(memory.total),
                      whole > 0 ? fmt::format(" of {} ({:.0f} %)", readable(whole),
                                              100.0 * static_cast<double>(memory.total) / static_cast<double>(whole))
                                : "");
  text += "  largest:";
  for (size_t i = 0; i < std::min<size_t>(6, memory.tensors.size()); ++i)
    text += fmt::format("{} {} {}", i == 0 ? "" : ",", memory.tensors[i].first, readable(memory.tensors[i].second));
  text += "\n";
  if (plan.groups.size() > 1)
    for (const RankGroup& group : plan.groups)
      text += fmt::format("  {:<40} {:>12} ({} more than the least)\n", group.name, readable(group.memory.total),
                          readable(group.memory.total - plan.groups.back().memory.total));
  if (memory.host > 0) {
    text += "host memory of a rank\n";
    for (const auto& [role, bytes] : memory.host_roles) text += fmt::format("  {:<18} {:>12}\n", role, readable(bytes));
    const int64_t node = plan.machine.profile.host_memory_bytes, ranks = ranks_of_a_node(plan.machine);
    text +=
        fmt::format("  {:<18} {:>12}{}\n", fmt::format("{} ranks of a node", ranks), readable(memory.host * ranks),
                    node > 0 ? fmt::format(" of {} ({:.0f} %)", readable(node),
                                           100.0 * static_cast<double>(memory.host * ranks) / static_cast<double>(node))
                             : "");
  }
  text += plan.longest > 0 ? fmt::format("longest sequence that fits this layout: {} tokens\n", plan.longest)
                           : "no sequence fits this layout\n";
  return text;
}

std::string time_text(const Plan& plan) {
  const StepTime& time = *plan.time;
  std::string text = "\ntime of a step, seconds\n";
  for (const auto& [name, seconds] : time.terms())
    if (seconds > 0)
      text += fmt::format("  {:<22} {:>12.5g}  {:>5.1f} %\n", name, seconds, 100 * seconds / time.seconds);
  text += fmt::format("  {:<22} {:>12.5g}  limited by {}\n", "step", time.seconds, time.limiting);
  text += fmt::format("  {:.5g} tokens/s, {:.4g} tokens a day, {:.4g} a rank and second\n", time.tokens_per_second,
                      time.tokens_per_day, time.tokens_per_second / plan.run->grid.size());
  text += fmt::format(
      "  {:.4g} useful FLOP a step ({:.4g} with what is computed again); {:.1f} % of the {:.4g} FLOP/s a rank's "
      "fastest product reaches{}\n",
      time.useful_flops, time.hardware_flops, 100 * time.product_rate_fraction, time.product_rate,
      time.peak_rate == 0
          ? ""
          : fmt::format(", {:.1f} % of its peak of {:.4g} (MFU)", 100 * time.peak_fraction, time.peak_rate));
  if (plan.run->grid.context > 1)
    for (const auto& [name, ring] :
         {std::pair("forward", &time.forward_ring), std::pair("backward", &time.backward_ring)})
      text += fmt::format(
          "  ring {}, a layer: attention {:.3g} s, hops {:.3g} s, exposed {:.3g} s; hidden from {} tokens "
          "a rank{}\n",
          name, ring->compute, ring->hops, ring->exposed, ring->tokens_to_hide,
          ring->tokens_to_hide_two_level == 0
              ? ""
              : fmt::format(" (parallel.ring: two_level from {})", ring->tokens_to_hide_two_level));
  if (plan.run->grid.tensor > 1)
    text += fmt::format("  tensor ranks, a layer: exchanges {:.3g} s in {} chunk{} each, exposed {:.3g} s\n",
                        time.tensor_layer.exchanges, time.tensor_layer.chunks, time.tensor_layer.chunks == 1 ? "" : "s",
                        time.tensor_layer.exposed);
  if (plan.work->offloaded_layers > 0)
    text += fmt::format(
        "  host copies, a layer: {:.3g} s each way beside {:.3g} s of products and attention forward, {:.3g} "
        "backward\n",
        time.offload_copy, time.offload_forward, time.offload_backward);
  if (!plan.counts.empty() && plan.machine.profile.device == "cuda") {
    const StepCounts& counts = plan.counts.front();
    text += fmt::format("  rank 0: {} kernels and {} products launched, {} sent over NCCL in {} operations\n",
                        counts.device.launches, counts.device.products, readable(counts.nccl_sent_bytes),
                        counts.nccl_operations);
  }
  text += "assumed\n";
  for (const std::string& assumption : assumptions_of(plan)) text += "  " + assumption + "\n";
  return text;
}

std::string layouts_text(const PlanConfig& config, const Plan& plan) {
  const LayoutSearch& search = plan.search;
  std::string text =
      fmt::format("\nbest layouts of {} tried ({} impossible, {} too large), the same sequences a step\n", search.tried,
                  search.impossible, search.too_large);
  if (search.best.empty()) return text + "  none fits\n";
  text += fmt::format("  {:>5} {:>7} {:>6} {:>4} {:<9} {:<11} {:>12} {:>10} {:>10} {:>6}  {}\n", "data", "context",
                      "tensor", "ZeRO", "recompute", "offload", "peak", "s a step", "tokens/s",
                      search.best.empty() || search.best.front().time.peak_rate == 0 ? "of it" : "MFU", "limited by");
  for (const PlannedLayout& layout : search.best)
    text += fmt::format(
        "  {:>5} {:>7} {:>6} {:>4} {:<9} {:<11} {:>12} {:>10.5g} {:>10.5g} {:>4.1f} %  {}\n", layout.run.grid.data,
        layout.run.grid.context, layout.run.grid.tensor, layout.run.network.optimizer.zero,
        name_of(layout.run.network.recompute), name_of(layout.run.network.offload), readable(layout.peak),
        layout.time.seconds, layout.time.tokens_per_second,
        100 * (layout.time.peak_rate == 0 ? layout.time.product_rate_fraction : layout.time.peak_fraction),
        layout.time.limiting);
  const PlannedRun& best = search.best.front().run;
  text += "\nthe first of them\n  " + launch_line(config, plan.machine, best) + "\n\n" +
          sbatch_script(config, plan.machine, best);
  return text;
}

}  // namespace

const Limit* Plan::fatal() const {
  for (const Limit& limit : limits)
    if (limit.fatal) return &limit;
  return nullptr;
}

Plan make_plan(const PlanConfig& config, const Notice& notice) {
  Plan plan;
  plan.model = planned_model(config.run, notice);
  plan.machine = planned_machine(config, notice);
  int64_t evaluation_length = 0;
  if (evaluates(config.run.eval)) {
    const auto& lengths = config.run.eval.lengths;
    evaluation_length =
        lengths.empty() ? config.run.data.sequence_length : *std::max_element(lengths.begin(), lengths.end());
  }
  const MemoryPlan memory(plan.model, plan.machine.profile, plan.machine.threads, evaluation_length,
                          !config.run.model.base);

  std::optional<GridShape> grid;
  plan.limits = limits_of_layout(config.run, plan.model, plan.machine.ranks(), grid);
  if (plan.limits.empty()) {
    plan.run = planned_run(config.run, *grid, plan.machine.ranks_per_node);
    plan.groups = memory.groups(*plan.run);
    if (plan.machine.profile.memory_bytes > 0)
      plan.longest = memory.longest_sequence(*plan.run, plan.machine.usable_bytes(), plan.machine.usable_host_bytes());
    plan.work = plan_work(plan.model, *plan.run, planned_tensor_chunks(*plan.run, plan.machine));
    plan.time = plan_step(plan.model, *plan.run, plan.machine, *plan.work);
    for (Limit& limit : limits_of_run(plan.model, *plan.run, plan.machine, memory, plan.groups.front().memory,
                                      plan.longest, *plan.time))
      plan.limits.push_back(std::move(limit));
  }

  if (plan.run && plan.fatal() == nullptr) {
    const int ranks = plan.run->grid.size() <= kCountedRanks ? plan.run->grid.size() : 1;
    for (int rank = 0; rank < ranks; ++rank) plan.counts.push_back(count_step(plan.model, *plan.run, rank));
  }

  // Without a grid of its own the run keeps what it says of data ranks, or has one.
  const PlannedRun base = plan.run
                              ? *plan.run
                              : planned_run(config.run, {static_cast<int>(config.run.parallel.data.value_or(1)), 1, 1},
                                            plan.machine.ranks_per_node);
  plan.search = search_layouts(plan.model, base, base.sequences(), plan.machine, memory);
  return plan;
}

std::string launch_line(const PlanConfig& config, const PlannedMachine& machine, const PlannedRun& run) {
  std::string text;
  const bool cpu = machine.profile.device == "cpu";
  if (cpu) text += fmt::format("OMP_NUM_THREADS={} ", machine.threads);
  if (run.grid.size() > 1) {
    text += fmt::format("mpirun -n {} ", run.grid.size());
    if (cpu && machine.threads > 1) text += fmt::format("--map-by slot:PE={} --bind-to core ", machine.threads);
  }
  text += "carillon train";
  for (const std::string& argument : train_arguments(config, run)) text += " " + shell_word(argument);
  return text;
}

std::string sbatch_script(const PlanConfig& config, const PlannedMachine& machine, const PlannedRun& run) {
  SlurmSection slurm = config.slurm;
  slurm.nodes = machine.nodes;
  slurm.tasks_per_node = machine.ranks_per_node;
  if (machine.profile.device == "cpu") slurm.cpus_per_task = machine.threads;
  return slurm_script(slurm, "train", train_arguments(config, run));
}

Json plan_json(const PlanConfig& config, const Plan& plan) {
  const MachineProfile& profile = plan.machine.profile;
  Json limits = Json::array(), layouts = Json::array();
  for (const Limit& limit : plan.limits)
    limits.push_back(
        {{"name", limit.name}, {"fatal", limit.fatal}, {"text", limit.text}, {"remedies", limit.remedies}});
  for (const PlannedLayout& layout : plan.search.best)
    layouts.push_back({{"data", layout.run.grid.data},
                       {"context", layout.run.grid.context},
                       {"tensor", layout.run.grid.tensor},
                       {"zero", layout.run.network.optimizer.zero},
                       {"recompute", name_of(layout.run.network.recompute)},
                       {"offload", name_of(layout.run.network.offload)},
                       {"gradient_accumulation_steps", layout.run.accumulation},
                       {"peak_bytes", layout.peak},
                       {"host_bytes", layout.host},
                       {"seconds", layout.time.seconds},
                       {"tokens_per_second", layout.time.tokens_per_second},
                       {"product_rate_fraction", layout.time.product_rate_fraction},
                       {"mfu", layout.time.peak_rate == 0 ? Json() : Json(layout.time.peak_fraction)},
                       {"limiting", layout.time.limiting},
                       {"command", launch_line(config, plan.machine, layout.run)},
                       {"sbatch", sbatch_script(config, plan.machine, layout.run)}});
  return {
      {"model",
       {{"parameters", plan.model.parameter_count()},
        {"product_parameters", product_parameters(plan.model)},
        {"layers", plan.model.num_hidden_layers}}},
      {"machine",
       {{"profile", profile.name},
        {"processor", profile.processor},
        {"device", profile.device},
        {"nodes", plan.machine.nodes},
        {"ranks_per_node", plan.machine.ranks_per_node},
        {"ranks", plan.machine.ranks()},
        {"threads", plan.machine.threads},
        {"memory_bytes", profile.memory_bytes},
        {"usable_bytes", plan.machine.usable_bytes()}}},
      {"layout", plan.run ? json_of(*plan.run) : Json()},
      {"memory", plan.run ? memory_json(plan) : Json()},
      {"time", plan.time ? time_json(plan) : Json()},
      {"counts", counts_json(plan)},
      {"limits", limits},
      {"layouts", layouts},
      {"search",
       {{"tried", plan.search.tried}, {"impossible", plan.search.impossible}, {"too_large", plan.search.too_large}}},
      {"runs", plan.fatal() == nullptr}};
}

std::string plan_text(const PlanConfig& config, const Plan& plan) {
  const PlannedMachine& machine = plan.machine;
  std::string text = fmt::format(
      "{} parameters, {} in products, {} layers; {} tokens a sequence, {}\n{} ({}): {} node{} of {} ranks{}\n",
      plan.model.parameter_count(), product_parameters(plan.model), plan.model.num_hidden_layers,
      config.run.data.sequence_length, name_of(config.run.runtime.dtype), machine.profile.name,
      machine.profile.processor, machine.nodes, machine.nodes == 1 ? "" : "s", machine.ranks_per_node,
      machine.profile.memory_bytes > 0 ? ", " + readable(machine.profile.memory_bytes) + " each" : "");
  if (plan.run) {
    text += fmt::format("{}: {} tokens a rank, {} sequence{} of {} tokens a step, {} tokens\n", describe(*plan.run),
                        plan.run->layout().local(), plan.run->sequences(), plan.run->sequences() == 1 ? "" : "s",
                        plan.run->network.sequence_length, plan.run->tokens());
    text += memory_text(plan) + time_text(plan);
  }
  if (!plan.limits.empty()) {
    text += "\nlimits\n";
    for (const Limit& limit : plan.limits) {
      std::string lines = limit.text;
      for (size_t at = 0; (at = lines.find('\n', at)) != std::string::npos; at += 5) lines.replace(at, 1, "\n    ");
      text += fmt::format("  {} {}: {}\n", limit.fatal ? "broken" : "note  ", limit.name, lines);
    }
  }
  return text + layouts_text(config, plan);
}

}  // namespace carillon
