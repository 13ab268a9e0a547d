#include "launch/plan/plan_report.h"

#include <algorithm>

#include "launch/evaluate/training_evaluator.h"

namespace carillon {

std::vector<std::string> assumptions_of(const Plan& plan) {
  const bool cpu = plan.machine.profile.device == "cpu";
  std::vector<std::string> list = {
      "one document per sequence, nothing padded or masked (a longer document is cut into sequences, data.packing)",
      cpu ? "gradients are reduced on the cores that compute, so never hidden"
      : plan.run->grid.tensor > 1
          ? "gradients are reduced during the backward pass, between its exchanges with tensor ranks, so not hidden"
          : "a layer's gradients are reduced behind the backward pass of the next, up to its first exchange with other "
            "ranks; what takes longer, the first layer's and the embedding's are counted",
      cpu ? "ring hops run on the cores that compute, so never hidden"
          : "ring hops run behind attention of the same step, which leaves them room; what is longer is counted"};
  if (plan.run->grid.tensor > 1)
    list.push_back(cpu ? "exchanges over tensor ranks run on the cores that compute, so never hidden"
                       : fmt::format("exchanges over tensor ranks travel in {} chunk{} beside the products of the "
                                     "other chunks and by weights, which leave them room; the first of a gather, the "
                                     "last of a scatter and what is longer are counted",
                                     plan.time->tensor_exchanges.chunks,
                                     plan.time->tensor_exchanges.chunks == 1 ? "" : "s"));
  if (!cpu && plan.run->network.offload != Offload::kNone)
    list.emplace_back(
        "copies to and from the host run both ways at once behind a layer's products and attention; the optimizer's "
        "behind nothing");
  if (!cpu)
    list.push_back(fmt::format("attention forward by {}, backward by {} (runtime.attention)", plan.time->forward_engine,
                               plan.time->backward_engine));
  for (const std::string& figure : plan.machine.profile.assumptions)
    list.push_back(plan.machine.profile.name + ": " + figure);
  list.insert(list.end(), plan.time->assumptions.begin(), plan.time->assumptions.end());
  return list;
}

namespace {

std::vector<std::string> train_arguments(const PlanConfig& config, const PlannedRun& run) {
  std::vector<std::pair<std::string, std::string>> layout = {
      {"parallel.data", fmt::format("{}", run.grid.data)},
      {"parallel.context", fmt::format("{}", run.grid.context)},
      {"parallel.tensor", fmt::format("{}", run.grid.tensor)},
      {"parallel.zero", fmt::format("{}", run.network.optimizer.zero)},
      {"train.recompute", name_of(run.network.recompute)},
      {"train.gradient_accumulation_steps", fmt::format("{}", run.accumulation)}};
  // Written if the file or the user gives another value; otherwise these are the defaults.
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
      "  {:.4g} useful FLOP per step ({:.4g} with what is computed again); {:.1f} % of the {:.4g} FLOP/s a rank's "
      "fastest product reaches{}\n",
      time.useful_flops, time.hardware_flops, 100 * time.product_rate_fraction, time.product_rate,
      time.peak_rate == 0
          ? ""
          : fmt::format(", {:.1f} % of its peak of {:.4g} (MFU)", 100 * time.peak_fraction, time.peak_rate));
  if (plan.run->grid.context > 1)
    for (const auto& [name, ring] :
         {std::pair("forward", &time.forward_ring), std::pair("backward", &time.backward_ring)})
      text += fmt::format(
          "  ring {}, one pass: attention {:.3g} s, hops {:.3g} s, exposed {:.3g} s; hidden from {} tokens per "
          "rank{}\n",
          name, ring->compute, ring->hops, ring->exposed, ring->tokens_to_hide,
          ring->tokens_to_hide_two_level == 0
              ? ""
              : fmt::format(" (parallel.ring: two_level from {})", ring->tokens_to_hide_two_level));
  if (plan.run->grid.tensor > 1)
    text += fmt::format("  tensor ranks, a micro-step: exchanges {:.3g} s in {} chunk{} each, exposed {:.3g} s\n",
                        time.tensor_exchanges.exchanges, time.tensor_exchanges.chunks,
                        time.tensor_exchanges.chunks == 1 ? "" : "s", time.tensor_exchanges.exposed);
  if (const HostCopyTime& copies = time.host_copies; copies.checkpoint_bytes > 0)
    text += fmt::format(
        "  host copies of activations: {:.3g} s each way beside {:.3g} s of products and attention, exposed {:.3g} s\n",
        copies.checkpoints, copies.beside, copies.checkpoints_exposed);
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
      fmt::format("\nbest layouts of {} tried ({} impossible, {} too large), the same sequences per step\n",
                  search.tried, search.impossible, search.too_large);
  if (search.best.empty()) return text + "  none fits\n";
  text += fmt::format("  {:>5} {:>7} {:>6} {:>4} {:<9} {:<11} {:>12} {:>10} {:>10} {:>6}  {}\n", "data", "context",
                      "tensor", "ZeRO", "recompute", "offload", "peak", "s per step", "tokens/s",
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
    plan.run = planned_run(config.run, plan.model, *grid, plan.machine);
    plan.groups = memory.groups(*plan.run);
    if (plan.machine.profile.memory_bytes > 0)
      plan.longest = memory.longest_sequence(*plan.run, plan.machine.usable_bytes(), plan.machine.usable_host_bytes());
    plan.time = plan_step(plan.model, *plan.run, plan.machine);
    for (Limit& limit : limits_of_run(plan.model, *plan.run, plan.machine, memory, plan.groups.front().memory,
                                      plan.longest, *plan.time))
      plan.limits.push_back(std::move(limit));
  }

  if (plan.run && plan.fatal() == nullptr) {
    const int ranks = plan.run->grid.size() <= kCountedRanks ? plan.run->grid.size() : 1;
    for (int rank = 0; rank < ranks; ++rank) plan.counts.push_back(count_step(plan.model, *plan.run, rank));
  }

  // If the layout is impossible, uses the configured number of data ranks, or one.
  const PlannedRun base =
      plan.run ? *plan.run
               : planned_run(config.run, plan.model, {static_cast<int>(config.run.parallel.data.value_or(1)), 1, 1},
                             plan.machine);
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
  return slurm_script(slurm, machine.profile.device, "train", config.run.output, train_arguments(config, run));
}

std::string plan_text(const PlanConfig& config, const Plan& plan) {
  const PlannedMachine& machine = plan.machine;
  std::string text = fmt::format(
      "{} parameters, {} in products, {} layers; {} tokens per sequence, {}\n{} ({}): {} node{} of {} ranks{}\n",
      plan.model.parameter_count(), product_parameters(plan.model), plan.model.num_hidden_layers,
      config.run.data.sequence_length, name_of(config.run.runtime.dtype), machine.profile.name,
      machine.profile.processor, machine.nodes, machine.nodes == 1 ? "" : "s", machine.ranks_per_node,
      machine.profile.memory_bytes > 0 ? ", " + readable(machine.profile.memory_bytes) + " each" : "");
  if (plan.run) {
    text += fmt::format("{}: {} tokens per rank, {} sequence{} of {} tokens per step, {} tokens\n", describe(*plan.run),
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
