// PosGen accuracy (Wang et al., 2403.00071, section 6.1), separately for leaky and fresh positions; teacher-forced, and
// optionally free-running.
#include <algorithm>
#include <optional>

#include "data/tasks/posgen.h"
#include "launch/evaluate/tasks/task.h"

namespace carillon {
namespace {

constexpr int64_t kBatch = 64;

// Inside and outside the trained length: all positions, those that need the far token (fresh), and the others (leaky).
struct Accuracy {
  Share id, ood, id_fresh, ood_fresh, id_leaky, ood_leaky;
  void add(bool inside, bool fresh, bool right) {
    (inside ? id : ood).add(right);
    if (fresh)
      (inside ? id_fresh : ood_fresh).add(right);
    else
      (inside ? id_leaky : ood_leaky).add(right);
  }
  void write(Json& metrics, const std::string& suffix) const {
    metrics["id_accuracy" + suffix] = id.json();
    metrics["ood_accuracy" + suffix] = ood.json();
    metrics["id_accuracy_fresh" + suffix] = id_fresh.json();
    metrics["ood_accuracy_fresh" + suffix] = ood_fresh.json();
    metrics["id_accuracy_leaky" + suffix] = id_leaky.json();
    metrics["ood_accuracy_leaky" + suffix] = ood_leaky.json();
  }
};

}  // namespace

Json run_posgen(const TaskContext& context) {
  const Json& task = context.point.task;
  PosGenOptions options;
  std::optional<PosGen> posgen;
  agree(context.world, [&] {
    options.task = parse_posgen_task(task["subtask"].get<std::string>());
    options.split = parse_posgen_split(task["split"].get<std::string>());
    options.prefixes = parse_posgen_prefixes(task["prefixes"].get<std::string>());
    options.modulus = task["modulus"], options.far = task["far"], options.near = task["near"];
    options.length = context.point.length, options.count = task["count"], options.seed = task["seed"].get<uint64_t>();
    posgen.emplace(options);
    if (posgen_vocabulary(options.modulus) > context.model.vocab_size)
      fail(ExitCode::kUsage,
           "PosGen of modulus {} has {} tokens, the model {}, in tasks, use the modulus it was trained on",
           options.modulus, posgen_vocabulary(options.modulus), context.model.vocab_size);
  });
  const int64_t first = options.far + options.near, trained = task["train_length"];
  const auto fresh = [&](int64_t l) { return posgen_is_fresh(options.task, options.far, options.near, l); };
  Accuracy forced, free;
  std::vector<Share> by_position(static_cast<size_t>(options.length));
  double loss = 0;
  int64_t tokens = 0;
  for (int64_t begin = 0; begin < options.count; begin += kBatch) {
    std::vector<ScoreDocument> documents;
    for (int64_t i = begin; i < std::min(begin + kBatch, options.count); ++i) {
      const std::vector<int64_t> sequence = posgen->tokens(i);
      documents.push_back({Json(), {sequence.begin(), sequence.end()}});
    }
    context.scorer.score(documents, [&](size_t, const TokenScores& scores) {
      for (int64_t l = first; l < options.length; ++l) {
        // Sequence token l is at index l + 1, after EOS; entry l of the scores is for it.
        const bool right = scores.margin[static_cast<size_t>(l)] == 0;
        loss += scores.loss[static_cast<size_t>(l)];
        ++tokens;
        by_position[static_cast<size_t>(l)].add(right);
        forced.add(l < trained, fresh(l), right);
      }
    });
    if (!task["free_running"].get<bool>()) continue;
    std::vector<std::vector<int32_t>> prompts;
    for (const ScoreDocument& document : documents)
      prompts.emplace_back(document.tokens.begin(), document.tokens.begin() + 1 + first);
    context.generator.generate(
        prompts, {options.length - first, {}, {}}, [&](size_t index, const std::vector<int64_t>& answer) {
          for (int64_t l = first; l < options.length; ++l)
            free.add(l < trained, fresh(l),
                     answer[static_cast<size_t>(l - first)] == documents[index].tokens[static_cast<size_t>(l + 1)]);
        });
  }
  Json metrics;
  forced.write(metrics, "");
  if (task["free_running"].get<bool>()) free.write(metrics, "_free");
  metrics["loss"] = tokens == 0 ? Json() : Json(loss / static_cast<double>(tokens));
  metrics["tokens"] = tokens;
  for (const Share& share : by_position) metrics["accuracy_by_position"].push_back(share.json());
  return metrics;
}

}  // namespace carillon
