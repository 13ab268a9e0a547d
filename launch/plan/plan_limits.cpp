#include "launch/plan/plan_limits.h"

#include <algorithm>

#include "launch/config_values.h"
#include "launch/ranks.h"

namespace carillon {
namespace {

double gibibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// The check `train` makes, its own words kept.
template <class Check>
void collect(std::vector<Limit>& limits, const char* name, Check check) {
  try {
    check();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kUsage) throw;
    limits.push_back({name, true, error.what()});
  }
}

// "2, 4 or 8": context sizes that share out `ranks` ranks and a sequence.
std::string context_sizes(int64_t ranks, int64_t tensor, int64_t length) {
  std::string text;
  for (int64_t context = 1; context * tensor <= ranks && 2 * context <= length; ++context)
    if (ranks % (context * tensor) == 0) text += (text.empty() ? "" : ", ") + fmt::format("{}", context);
  return text;
}

Limit memory_limit(const PlannedRun& run, const PlannedMachine& machine, const MemoryPlan& memory, int64_t peak,
                   int64_t longest) {
  const int64_t usable = machine.usable_bytes(), whole = machine.profile.memory_bytes;
  Limit limit{"memory", peak > whole, ""};
  std::string remedies;
  const auto remedy = [&](const std::string& change, const PlannedRun& other) {
    const int64_t other_peak = memory.peak(other);
    const bool fits = other_peak <= usable;
    limit.remedies.push_back({{"change", change}, {"peak_bytes", other_peak}, {"fits", fits}});
    remedies += fmt::format("{}{} {:.1f} GiB{}", remedies.empty() ? "" : "; ", change, gibibytes(other_peak),
                            fits ? " (fits)" : "");
  };
  const int64_t z = int64_t{run.grid.data} * run.grid.context;
  if (run.network.recompute != Recompute::kFull) {
    PlannedRun other = run;
    other.network.recompute = Recompute::kFull;
    remedy("train.recompute=full", other);
  }
  if (run.network.optimizer.zero < 2 && z > 1) {
    PlannedRun other = run;
    other.network.optimizer.zero = 2;
    remedy("parallel.zero=2", other);
    if (run.network.recompute != Recompute::kFull) {
      other.network.recompute = Recompute::kFull;
      remedy("train.recompute=full and parallel.zero=2", other);
    }
  }
  // More context ranks: those of the data axis first, then new ones.
  for (const int factor : {2, 4, 8}) {
    PlannedRun other = run;
    other.grid.context *= factor;
    const bool within = run.grid.data % factor == 0;
    if (within) other.grid.data /= factor;
    if (run.network.sequence_length < 2 * other.grid.context) break;
    remedy(fmt::format("parallel.context={} on {} ranks", other.grid.context, other.grid.size()), other);
    if (limit.remedies.back()["fits"]) break;
  }
  if (longest > 0 && longest < run.network.sequence_length) {
    PlannedRun other = run;
    other.network.sequence_length = longest;
    remedy(fmt::format("data.sequence_length={}", longest), other);
  }
  limit.text = fmt::format("a rank takes {:.2f} GiB of its {:.2f} GiB{}, in this layout, {}", gibibytes(peak),
                           gibibytes(whole), peak > whole ? "" : ", less than 8 % stay free",
                           remedies.empty() ? "take more ranks or another machine" : "change one: " + remedies);
  return limit;
}

void ring_limit(std::vector<Limit>& limits, const PlannedRun& run, const StepTime& time) {
  std::string text;
  const int64_t local = run.layout().local();
  const auto pass = [&](const char* name, const RingTime& ring) {
    if (ring.uncovered <= 0) return;
    text += fmt::format("{}{} needs {} tokens a rank and leaves {:.3g} s a layer uncovered", text.empty() ? "" : "; ",
                        name, ring.tokens_to_hide, ring.uncovered);
  };
  pass("the forward ring", time.forward_ring);
  pass("the backward ring", time.backward_ring);
  if (text.empty()) return;
  const int64_t needed = std::max(time.forward_ring.tokens_to_hide, time.backward_ring.tokens_to_hide);
  const int64_t fewer =
      std::clamp<int64_t>(run.layout().padded() / std::max<int64_t>(needed, 1), 1, std::max(1, run.grid.context - 1));
  limits.push_back({"ring", false,
                    fmt::format("with {} tokens a rank the ring's hops take longer than the attention beside them: {}, "
                                "in parallel.context, take at most {} or sequences of at least {} tokens",
                                local, text, fewer, needed * run.grid.context)});
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
                                 const MemoryPlan& memory, int64_t peak, int64_t longest, const StepTime& time) {
  std::vector<Limit> limits;
  if (machine.profile.memory_bytes > 0 && peak > machine.usable_bytes())
    limits.push_back(memory_limit(run, machine, memory, peak, longest));
  ring_limit(limits, run, time);

  const int64_t tensor = run.grid.tensor, length = run.network.sequence_length;
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
  if (const int64_t padding = run.layout().padded() - length; padding > 0)
    limits.push_back({"padding", false,
                      fmt::format("{} of {} tokens of a sequence are padding ({:.2f} %), in data.sequence_length, a "
                                  "multiple of {} has none",
                                  padding, run.layout().padded(),
                                  100.0 * static_cast<double>(padding) / static_cast<double>(run.layout().padded()),
                                  2 * run.grid.context * tensor)});
  if (tensor > machine.ranks_per_node)
    limits.push_back({"nodes", false,
                      fmt::format("parallel.tensor = {} reaches over nodes of {} ranks, in the configuration, take at "
                                  "most {}: its collectives are not hidden",
                                  tensor, machine.ranks_per_node, machine.ranks_per_node)});
  const double reach =
      model.rope.type == RopeType::kDefault
          ? static_cast<double>(model.max_position_embeddings)
          : std::max(static_cast<double>(model.max_position_embeddings),
                     model.rope.factor * static_cast<double>(model.rope.original_max_position_embeddings > 0
                                                                 ? model.rope.original_max_position_embeddings
                                                                 : model.max_position_embeddings));
  if (static_cast<double>(length) > reach && reach > 0)
    limits.push_back(
        {"rope", false,
         fmt::format("sequences of {} tokens reach beyond the {:.0f} the rotation is made for, in rope, "
                     "take a factor of at least {:.3g}",
                     length, reach,
                     static_cast<double>(length) / static_cast<double>(model.rope.original_max_position_embeddings > 0
                                                                           ? model.rope.original_max_position_embeddings
                                                                           : model.max_position_embeddings))});
  return limits;
}

}  // namespace carillon
