#include "launch/plan/plan_limits.h"

#include <algorithm>

#include "launch/config/values.h"
#include "launch/session/ranks.h"
#include "launch/session/run_checks.h"

namespace carillon {
namespace {

double gibibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// Runs a check of `train` and keeps its message.
template <class Check>
void collect(std::vector<Limit>& limits, const char* name, Check check) {
  try {
    check();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kUsage) throw;
    limits.push_back({name, true, error.what()});
  }
}

// "2, 4 or 8": context sizes that divide `ranks` ranks and a sequence.
std::string context_sizes(int64_t ranks, int64_t tensor, int64_t length) {
  std::string text;
  for (int64_t context = 1; context * tensor <= ranks && 2 * context <= length; ++context)
    if (ranks % (context * tensor) == 0) text += (text.empty() ? "" : ", ") + fmt::format("{}", context);
  return text;
}

constexpr int64_t kTile = 8192;  // rows of the MLP at a time: enough for the full rate of products

// Ways to use less memory without more ranks, each alone and combined with the ones before.
struct Remedies {
  Limit& limit;
  const MemoryPlan& memory;
  const PlannedMachine& machine;
  bool host = false;  // host memory is insufficient
  std::string text = "";

  // Returns whether it fits.
  bool add(const std::string& change, const PlannedRun& run) {
    const RankMemory rank = memory.rank(run, 0);
    const bool fits = machine.fits(rank.total, rank.host);
    Json remedy = {{"change", change}, {"peak_bytes", rank.total}, {"host_bytes", rank.host}, {"fits", fits}};
    limit.remedies.push_back(std::move(remedy));
    text += fmt::format("{}{} {:.1f} GiB{}{}", text.empty() ? "" : "; ", change, gibibytes(rank.total),
                        host || rank.host > machine.usable_host_bytes()
                            ? fmt::format(" and {:.1f} GiB of host", gibibytes(rank.host))
                            : "",
                        fits ? " (fits)" : "");
    return fits;
  }
};

Limit memory_limit(const PlannedRun& run, const PlannedMachine& machine, const MemoryPlan& memory, int64_t peak,
                   int64_t longest) {
  const int64_t whole = machine.profile.memory_bytes;
  Limit limit{"memory", peak > whole, ""};
  Remedies remedies{limit, memory, machine};
  const auto remedy = [&](const std::string& change, const PlannedRun& other) { return remedies.add(change, other); };
  const int64_t dp_cp = int64_t{run.grid.data} * run.grid.context;
  if (run.network.recompute != Recompute::kFull) {
    PlannedRun other = run;
    other.network.recompute = Recompute::kFull;
    remedy("train.recompute=full", other);
  }
  if (run.network.optimizer.zero < 2 && dp_cp > 1) {
    PlannedRun other = run;
    other.network.optimizer.zero = 2;
    remedy("parallel.zero=2", other);
    if (run.network.recompute != Recompute::kFull) {
      other.network.recompute = Recompute::kFull;
      remedy("train.recompute=full and parallel.zero=2", other);
    }
  }
  // Cheap changes, cumulatively: tiles, then host memory.
  {
    PlannedRun other = run;
    std::string changes;
    bool fits = false;
    const auto also = [&](const std::string& change) {
      changes += (changes.empty() ? "" : " and ") + change;
      fits = remedy(changes, other);
    };
    if (other.network.recompute == Recompute::kNone) {
      other.network.recompute = Recompute::kSelective;
      changes = "train.recompute=selective";
    }
    if (other.mlp_rows() > kTile) {
      other.network.mlp_tile = kTile;
      also("train.mlp_tile=8k");
    }
    if (machine.profile.device != "cpu") {
      const bool optimizer = offloads_optimizer(other.network.offload);
      if (!fits && !offloads_checkpoints(other.network.offload)) {
        other.network.offload = optimizer ? Offload::kAll : Offload::kCheckpoints;
        also(optimizer ? "train.offload=all" : "train.offload=checkpoints");
      }
      if (!fits && other.network.optimizer.zero < 2 && dp_cp > 1) {
        other.network.optimizer.zero = 2;
        also("parallel.zero=2");
      }
      if (!fits && !optimizer) {
        other.network.offload = Offload::kAll;
        if (const size_t at = changes.find("offload=checkpoints"); at != std::string::npos)
          changes.replace(at, std::string("offload=checkpoints").size(), "offload=all"), fits = remedy(changes, other);
        else
          also("train.offload=all");
      }
    }
  }
  // More context ranks: taken from the data axis first, then new ones.
  for (const int factor : {2, 4, 8}) {
    PlannedRun other = run;
    other.grid.context *= factor;
    const bool within = run.grid.data % factor == 0;
    if (within) other.grid.data /= factor;
    if (run.network.sequence_length < 2 * other.grid.context) break;
    if (remedy(fmt::format("parallel.context={} on {} ranks", other.grid.context, other.grid.size()), other)) break;
  }
  if (longest > 0 && longest < run.network.sequence_length) {
    PlannedRun other = run;
    other.network.sequence_length = longest;
    remedy(fmt::format("data.sequence_length={}", longest), other);
  }
  limit.text =
      fmt::format("a rank takes {:.2f} GiB of its {:.2f} GiB{}, in this layout, {}", gibibytes(peak), gibibytes(whole),
                  peak > whole ? "" : ", less than 8 % stay free",
                  remedies.text.empty() ? "take more ranks or another machine" : "change one: " + remedies.text);
  return limit;
}

// Host memory of a node, for all its ranks.
Limit host_limit(const PlannedRun& run, const PlannedMachine& machine, const MemoryPlan& memory,
                 const RankMemory& fullest, int64_t longest) {
  const int64_t ranks = std::min<int64_t>(machine.ranks_per_node, machine.ranks());
  const int64_t node = fullest.host * ranks, whole = machine.profile.host_memory_bytes;
  Limit limit{"host", node > whole, ""};
  Remedies remedies{limit, memory, machine, /*host=*/true};
  PlannedRun other = run;
  if (offloads_checkpoints(run.network.offload) && run.network.recompute == Recompute::kSelective) {
    other.network.recompute = Recompute::kFull;
    remedies.add("train.recompute=full", other);
  }
  if (run.network.offload != Offload::kNone) {
    other.network.offload = Offload::kNone;
    remedies.add(other.network.recompute == run.network.recompute ? "train.offload=none"
                                                                  : "train.recompute=full and train.offload=none",
                 other);
  }
  for (const int factor : {2, 4, 8}) {
    PlannedRun more = run;
    more.grid.context *= factor;
    if (run.network.sequence_length < 2 * more.grid.context) break;
    if (remedies.add(fmt::format("parallel.context={} on {} ranks", more.grid.context, more.grid.size()), more)) break;
  }
  if (longest > 0 && longest < run.network.sequence_length) {
    PlannedRun shorter = run;
    shorter.network.sequence_length = longest;
    remedies.add(fmt::format("data.sequence_length={}", longest), shorter);
  }
  limit.text = fmt::format(
      "{} ranks take {:.1f} GiB of their node's {:.1f} GiB of host memory{}, in train.offload, change one: {}", ranks,
      gibibytes(node), gibibytes(whole), node > whole ? "" : ", of which at most 80 % should be page-locked",
      remedies.text);
  return limit;
}

void ring_limit(std::vector<Limit>& limits, const PlannedRun& run, const StepTime& time) {
  std::string text;
  const int64_t local = run.layout().local();
  const auto pass = [&](const char* name, const RingTime& ring) {
    if (ring.uncovered <= 0) return;
    text += fmt::format("{}{} needs {} tokens per rank and leaves {:.3g} s per layer uncovered{}",
                        text.empty() ? "" : "; ", name, ring.tokens_to_hide, ring.uncovered,
                        ring.tokens_to_hide_two_level == 0
                            ? ""
                            : fmt::format(" (parallel.ring: two_level needs {})", ring.tokens_to_hide_two_level));
  };
  pass("the forward ring", time.forward_ring);
  pass("the backward ring", time.backward_ring);
  if (text.empty()) return;
  const int64_t needed = std::max(time.forward_ring.tokens_to_hide, time.backward_ring.tokens_to_hide);
  const int64_t fewer =
      std::clamp<int64_t>(run.layout().padded() / std::max<int64_t>(needed, 1), 1, std::max(1, run.grid.context - 1));
  limits.push_back(
      {"ring", false,
       fmt::format("with {} tokens per rank the ring's hops take longer than the attention beside them ({:.3g} s of a "
                   "step of {:.3g} s): {}, in parallel.context, use at most {} or sequences of at least {} tokens",
                   local, time.ring, time.seconds, text, fewer, needed * run.grid.context)});
}

}  // namespace

std::vector<Limit> limits_of_layout(const RunConfig& config, const ModelConfig& model, int64_t ranks,
                                    std::optional<GridShape>& grid) {
  std::vector<Limit> limits;
  collect(limits, "world", [&] { grid = grid_shape(config.parallel, static_cast<int>(ranks)); });
  if (!limits.empty())
    limits.back().text += fmt::format(
        "\n{} ranks and parallel.tensor {} leave parallel.context {}", ranks, config.parallel.tensor,
        ranks % config.parallel.tensor == 0 ? context_sizes(ranks, config.parallel.tensor, config.data.sequence_length)
                                            : "nothing");
  collect(limits, "heads", [&] { require_tensor_parallel(model, config.parallel.tensor); });
  collect(limits, "length", [&] {
    SequenceLayout(config.parallel.layout, config.data.sequence_length, static_cast<int>(config.parallel.context),
                   static_cast<int>(config.parallel.tensor));
  });
  return limits;
}

std::vector<Limit> limits_of_run(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                                 const MemoryPlan& memory, const RankMemory& fullest, int64_t longest,
                                 const StepTime& time) {
  std::vector<Limit> limits;
  if (run.network.offload != Offload::kNone && machine.profile.device == "cpu")
    limits.push_back({"offload", true,
                      fmt::format("a CPU keeps everything in host memory already, in train.offload, {} frees nothing: "
                                  "leave it out or set none",
                                  name_of(run.network.offload))});
  if (machine.profile.memory_bytes > 0 && fullest.total > machine.usable_bytes())
    limits.push_back(memory_limit(run, machine, memory, fullest.total, longest));
  if (fullest.host > machine.usable_host_bytes()) limits.push_back(host_limit(run, machine, memory, fullest, longest));
  ring_limit(limits, run, time);

  const int64_t tensor = run.grid.tensor, length = run.network.sequence_length;
  const int64_t positions = std::max(length, run.network.positions);
  if (model.vocab_size % tensor != 0 || model.intermediate_size % tensor != 0) {
    const auto multiple = [tensor](int64_t n) { return (n + tensor - 1) / tensor * tensor; };
    std::string what;
    if (model.vocab_size % tensor != 0)
      what = fmt::format("{} tokens of vocabulary (nearest even: {})", model.vocab_size, multiple(model.vocab_size));
    if (model.intermediate_size % tensor != 0)
      what += fmt::format("{}{} MLP columns (nearest even: {})", what.empty() ? "" : " and ", model.intermediate_size,
                          multiple(model.intermediate_size));
    limits.push_back({"vocabulary", false,
                      fmt::format("{} do not divide over parallel.tensor = {}, in the model, it works: shares differ "
                                  "by one{}",
                                  what, tensor, model.vocab_size < tensor ? ", and some ranks have none" : "")});
  }
  if (const HostCopyTime& copies = time.host_copies; copies.checkpoints_exposed > 0)
    limits.push_back(
        {"offload", false,
         fmt::format(
             "activations take {:.3g} s to the host and as long back, and a step waits {:.3g} s for them beyond "
             "its products and attention, in train.offload, sequences this short wait for it: keep them on the "
             "device if they fit",
             copies.checkpoints, copies.checkpoints_exposed)});
  if (const int64_t padding = run.layout().padded() - length; padding > 0)
    limits.push_back({"padding", false,
                      fmt::format("{} of {} tokens of a sequence are padding ({:.2f} %), in data.sequence_length, a "
                                  "multiple of {} has none",
                                  padding, run.layout().padded(),
                                  100.0 * static_cast<double>(padding) / static_cast<double>(run.layout().padded()),
                                  2 * run.grid.context * tensor)});
  if (tensor > machine.ranks_per_node)
    limits.push_back({"nodes", false,
                      fmt::format("parallel.tensor = {} reaches over nodes of {} ranks, in the configuration, use at "
                                  "most {}: its collectives are not hidden",
                                  tensor, machine.ranks_per_node, machine.ranks_per_node)});
  const double reach =
      model.rope.type == RopeType::kDefault
          ? static_cast<double>(model.max_position_embeddings)
          : std::max(static_cast<double>(model.max_position_embeddings),
                     model.rope.factor * static_cast<double>(model.rope.original_max_position_embeddings > 0
                                                                 ? model.rope.original_max_position_embeddings
                                                                 : model.max_position_embeddings));
  if (static_cast<double>(positions) > reach && reach > 0)
    limits.push_back(
        {"rope", false,
         fmt::format(
             "{} reach beyond the {:.0f} the rotation is made for, in rope, use a factor of at least {:.3g}",
             positions > length ? fmt::format("positions up to {}", positions)
                                : fmt::format("sequences of {} tokens", length),
             reach,
             static_cast<double>(positions) / static_cast<double>(model.rope.original_max_position_embeddings > 0
                                                                      ? model.rope.original_max_position_embeddings
                                                                      : model.max_position_embeddings))});
  if (const auto warning = base_bound_warning(model, positions)) limits.push_back({"base", false, *warning});
  return limits;
}

}  // namespace carillon
