#include "launch/plan/plan_config.h"

#include <filesystem>

#include "data/files/posix_file.h"
#include "launch/session/opened_model.h"
#include "launch/session/run_checks.h"
#include "launch/train/training_step.h"

namespace carillon {
namespace {

// The search over layouts iterates over divisors of the ranks; a larger number is a typing error.
constexpr double kMostPlannedRanks = 131072;

}  // namespace

void declare_plan(Schema& schema, PlanConfig& config) {
  PlanSection& plan = config.plan;
  schema.section("plan", "The machine to plan for.");
  schema
      .text("plan.profile", plan.profile,
            "Rates of the machine: h100-sxm, a100, b200; `this`, as measured by `carillon bench`; or the path of a "
            "file that it wrote. auto: this if it has been measured, otherwise h100-sxm.")
      .aliases({"machine", "gpu", "hardware"});
  schema.integer("plan.nodes", plan.nodes, "Number of nodes.").at_least(1).at_most(kMostPlannedRanks).default_is("1");
  schema
      .integer("plan.ranks_per_node", plan.ranks_per_node, "Ranks per node: one per GPU, or cores / threads on a CPU.")
      .at_least(1)
      .at_most(kMostPlannedRanks)
      .default_is("the profile's")
      .aliases({"gpus_per_node"});
  schema.integer("plan.ranks", plan.ranks, "Number of all ranks, instead of nodes · ranks_per_node.")
      .at_least(1)
      .at_most(kMostPlannedRanks)
      .default_is("nodes · ranks_per_node");
  schema.integer("plan.memory", plan.memory, "Memory of a rank in bytes (24g), instead of the profile's.")
      .at_least(1)
      .default_is("the profile's");
  schema.integer("plan.host_memory", plan.host_memory, "Host memory of a node in bytes (1t), instead of the profile's.")
      .at_least(1)
      .default_is("the profile's");
  declare_run(schema, config.run);
  declare_slurm(schema, config.slurm);
}

PlanConfig load_plan_config(const std::string& path, const std::vector<std::string>& overrides) {
  PlanConfig config;
  config.path = path;
  Schema schema;
  declare_plan(schema, config);
  schema.apply_file(path);
  for (const std::string& argument : overrides) {
    schema.apply_override(argument);
    if (!argument.starts_with("plan.") && !argument.starts_with("slurm.")) config.overrides.push_back(argument);
  }
  check_run(schema, config.run);
  return config;
}

PlannedMachine planned_machine(const PlanConfig& config, const Notice& notice) {
  const PlanSection& plan = config.plan;
  std::string name = plan.profile;
  if (name == "auto") {
    name = std::filesystem::exists(default_profile_path()) ? "this" : "h100-sxm";
    if (name != "this")
      notice(
          "this machine was not measured: planned for h100-sxm (plan.profile names another; carillon bench measures "
          "this one)");
  }
  PlannedMachine machine;
  machine.profile = load_machine_profile(name);
  MachineProfile& profile = machine.profile;
  machine.threads = static_cast<int>(config.run.runtime.threads.value_or(std::max(1, profile.threads)));
  machine.nodes = plan.nodes.value_or(1);
  machine.ranks_per_node = plan.ranks_per_node.value_or(std::max(1, profile.ranks_per_node));
  if (plan.ranks) {
    if (*plan.ranks <= machine.ranks_per_node) {
      machine.nodes = 1;
      machine.ranks_per_node = *plan.ranks;
    } else {
      if (*plan.ranks % machine.ranks_per_node != 0)
        fail(ExitCode::kUsage,
             "{} ranks do not fill nodes of {}, in plan.ranks, use {} or {}, or set plan.ranks_per_node", *plan.ranks,
             machine.ranks_per_node, *plan.ranks / machine.ranks_per_node * machine.ranks_per_node,
             (*plan.ranks / machine.ranks_per_node + 1) * machine.ranks_per_node);
      if (plan.nodes && *plan.nodes * machine.ranks_per_node != *plan.ranks)
        fail(ExitCode::kUsage, "{} ranks are not {} nodes of {}, in plan.ranks and plan.nodes, leave one out",
             *plan.ranks, *plan.nodes, machine.ranks_per_node);
      machine.nodes = *plan.ranks / machine.ranks_per_node;
    }
  }
  // On a CPU the memory is shared by all ranks.
  if (profile.device == "cpu" && machine.ranks_per_node != profile.ranks_per_node)
    profile.memory_bytes = profile.memory_bytes * std::max(1, profile.ranks_per_node) / machine.ranks_per_node;
  if (static_cast<double>(machine.nodes) * static_cast<double>(machine.ranks_per_node) > kMostPlannedRanks)
    fail(ExitCode::kUsage, "{} nodes of {} ranks are more than {:.0f} ranks, in plan.nodes, plan fewer", machine.nodes,
         machine.ranks_per_node, kMostPlannedRanks);
  if (plan.memory) profile.memory_bytes = *plan.memory;
  if (plan.host_memory) profile.host_memory_bytes = *plan.host_memory;
  return machine;
}

ModelConfig planned_model(const RunConfig& config, const Notice& notice) {
  const auto world = solo_communicator("world");
  if (!config.model.base) return open_run_model(*world, config, notice).config;
  const std::string text_file = *config.model.base + "/config.json";
  std::error_code error;
  if (!std::filesystem::exists(text_file, error)) return open_run_model(*world, config, notice).config;
  ModelConfig model = parse_model_config(read_whole_file(text_file), text_file);
  static_cast<ModelRope&>(model) = merge_model_rope(model, config.rope.settings, "rope");
  const auto adapter = config.adapter.on() && config.adapter.base
                           ? ModelSource::open_adapter(resolve_model_path(*config.adapter.base, notice))
                           : nullptr;
  model.adapter = adapter_of(config, model, adapter.get());
  require_possible_sizes(model, config);
  return model;
}

}  // namespace carillon
