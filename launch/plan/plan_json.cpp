// A plan as one JSON object; plan_report.h lists its keys.
#include <algorithm>

#include "launch/plan/plan_report.h"

namespace carillon {
namespace {

std::string layout_word(LayoutKind kind) { return kind == LayoutKind::kZigzag ? "zigzag" : "contiguous"; }

Json by_name(const std::vector<std::pair<std::string, int64_t>>& list) {
  Json object = Json::object();
  for (const auto& [name, bytes] : list) object[name] = bytes;
  return object;
}

Json json_of(const RingTime& ring) {
  return {{"compute", ring.compute},
          {"hops", ring.hops},
          {"exposed", ring.exposed},
          {"tokens_to_hide", ring.tokens_to_hide},
          {"tokens_to_hide_two_level", ring.tokens_to_hide_two_level},
          {"bytes", ring.bytes}};
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
          {"allocated_bytes", memory.allocated},
          {"host_bytes", memory.host},
          {"host_by_role", by_name(memory.host_roles)},
          {"host_node_bytes", memory.host * ranks_of_a_node(plan.machine)},
          {"by_role", by_name(memory.roles)},
          {"tensors", by_name(memory.tensors)},
          {"groups", groups},
          {"longest_sequence", plan.longest}};
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
           {{"checkpoint_bytes", time.host_copies.checkpoint_bytes},
            {"state_bytes", time.host_copies.state_bytes},
            {"checkpoints", time.host_copies.checkpoints},
            {"beside", time.host_copies.beside},
            {"exposed", time.offload}}},
          {"tensor",
           {{"chunks", time.tensor_exchanges.chunks},
            {"exchanges", time.tensor_exchanges.exchanges},
            {"exposed", time.tensor_exchanges.exposed}}},
          {"gradients", {{"reduction", time.reduction}, {"exposed", time.reduction_exposed}}},
          {"attention", {{"forward", time.forward_engine}, {"backward", time.backward_engine}}},
          {"ring", {{"forward", json_of(time.forward_ring)}, {"backward", json_of(time.backward_ring)}}}};
}

// Peak of dense products in the run's compute type; null if the profile has none.
Json peak_of(const Plan& plan) {
  if (!plan.run) return {};
  const auto& peaks = plan.machine.profile.peak_flops_per_second;
  const auto found = peaks.find(plan.run->network.compute);
  return found == peaks.end() ? Json() : Json(found->second);
}

Json counts_json(const Plan& plan) {
  const bool device = plan.machine.profile.device == "cuda";
  const auto of_device = [device](int64_t number) { return device ? Json(number) : Json(); };
  Json list = Json::array();
  for (const StepCounts& counts : plan.counts) {
    Json axes = Json::object();
    for (const auto& [name, axis] : counts.axes) axes[name] = {{"bytes", axis.bytes}, {"calls", axis.calls}};
    Json work = Json::object();
    for (const auto& [what, one] : counts.device.work)
      work[what] = {{"calls", one.calls}, {"flop", one.flop}, {"bytes", one.bytes}};
    list.push_back({{"rank", list.size()},
                    {"ops", counts.device.ops},
                    {"work", work},
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

}  // namespace

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
        {"memory_bytes_per_second", profile.memory_bytes_per_second},
        {"peak_flops_per_second", peak_of(plan)},
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

}  // namespace carillon
