// Passkey, needle and RULER: generates prompts of the given length and scores greedy answers.
#include "data/tasks/retrieval.h"

#include <algorithm>
#include <map>
#include <optional>

#include "data/corpus/document_reader.h"
#include "launch/evaluate/tasks/task.h"

namespace carillon {
namespace {

// Reads a needle's haystack from the user's files: text, or tokens if the model has no tokenizer.
void read_haystack(const TaskContext& context, RetrievalOptions& options) {
  if (!reads_documents(context.point.task)) return;
  for_each_document(context, /*count_bytes=*/false, [&](Document& document) {
    std::vector<uint32_t>& tokens = document.tokens;
    if (context.tokenizer != nullptr)
      options.haystack_text += context.tokenizer->decode(tokens, /*skip_special=*/true) + "\n";
    else
      options.haystack_tokens.insert(options.haystack_tokens.end(), tokens.begin(), tokens.end());
  });
}

}  // namespace

Json run_retrieval(const TaskContext& context) {
  const Json& task = context.point.task;
  RetrievalOptions options;
  read_haystack(context, options);
  std::optional<Retrieval> retrieval;
  const bool grid = task.contains("depths");
  const int64_t depths = grid ? task["depths"].get<int64_t>() : 1, trials = task["trials"];
  std::vector<RetrievalSample> samples;
  std::vector<double> sample_depths;
  std::vector<std::vector<int32_t>> prompts;
  agree(context.world, [&] {
    options.task = task.value("subtask", task["task"].get<std::string>());
    options.length = context.point.length;
    options.new_tokens = task["new_tokens"], options.digits = task["digits"];
    options.seed = task["seed"].get<uint64_t>();
    if (task.contains("needle")) {
      options.needle = task["needle"], options.question = task["question"];
      for (const Json& keyword : task["keywords"]) options.keywords.push_back(keyword.get<std::string>());
    }
    retrieval.emplace(options, context.tokenizer, context.model.vocab_size);
    for (int64_t d = 0; d < depths; ++d)
      for (int64_t trial = 0; trial < trials; ++trial) {
        sample_depths.push_back(depths == 1 ? 0.5 : static_cast<double>(d) / static_cast<double>(depths - 1));
        samples.push_back(retrieval->sample(d * trials + trial, sample_depths.back()));
        prompts.push_back(samples.back().prompt);
      }
  });

  Generator::Request request{retrieval->new_tokens(), {}, {}};
  if (context.tokenizer != nullptr && context.tokenizer->eos()) request.stop.push_back(*context.tokenizer->eos());
  Share all, perfect;
  std::map<double, Share> by_depth;
  Json written = Json::array();
  context.generator.generate(prompts, request, [&](size_t index, const std::vector<int64_t>& answer) {
    const double score = retrieval->score(samples[index], answer);
    all.add(score);
    perfect.add(score == 1);
    by_depth[sample_depths[index]].add(score);
    if (!task["samples"].get<bool>()) return;
    written.push_back({{"prompt", prompts[index]}, {"answer", answer}, {"score", score}});
    if (grid) written.back()["depth"] = sample_depths[index];
    if (context.tokenizer != nullptr)
      written.back()["text"] =
          context.tokenizer->decode(std::vector<uint32_t>(answer.begin(), answer.end()), /*skip_special=*/true);
  });
  Json metrics = {{"accuracy", all.json()}, {"perfect", perfect.json()}, {"samples_scored", all.all}};
  if (grid)
    for (const auto& [depth, share] : by_depth)
      metrics["by_depth"].push_back({{"depth", depth}, {"accuracy", share.json()}, {"trials", share.all}});
  if (!written.empty()) metrics["samples"] = written;
  return metrics;
}

}  // namespace carillon
