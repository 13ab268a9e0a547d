#include <algorithm>

#include "data/tasks/posgen.h"
#include "data/tasks/retrieval.h"
#include "launch/evaluate/tasks/task.h"
#include "runtime/text.h"

namespace carillon {
namespace {

void check_choice(const Json& task, const char* key, const std::vector<std::string>& choices) {
  const std::string value = task[key].get<std::string>();
  if (std::find(choices.begin(), choices.end(), value) == choices.end())
    fail(ExitCode::kUsage, "{} of task {} is {}, in tasks, give {}", key, task["name"].get<std::string>(),
         printable(value), join(choices, " or "));
}

void check_at_least(const Json& task, const char* key, int64_t least) {
  if (task[key].get<int64_t>() < least)
    fail(ExitCode::kUsage, "{} of task {} is {}, in tasks, give at least {}", key, task["name"].get<std::string>(),
         task[key].get<int64_t>(), least);
}

void check_data(const Json& task, const SweepConfig& config) {
  if (task["data"].is_null() && config.data.validation.empty())
    fail(ExitCode::kUsage, "task {} names no data, in tasks, add data: [{{path: FILE}}] or data.validation",
         task["name"].get<std::string>());
  if (task["data"].is_null()) return;
  if (!task["data"].is_array() || task["data"].empty())
    fail(ExitCode::kUsage, "data of task {} is {}, in tasks, write [{{path: FILE}}]", task["name"].get<std::string>(),
         task["data"].is_array() ? "empty" : "not a list");
  (void)data_paths(task, config);  // refuses entries without a path
}

void check_perplexity(const Json& task, const SweepConfig& config) {
  check_choice(task, "window", {"sliding", "full", "blocks"});
  check_choice(task, "aggregation", {"token", "window_mean"});
  if (task["stride"].get<int64_t>() < 1) fail(ExitCode::kUsage, "stride is below 1, in tasks, give at least 1");
  if (task["window"] == "sliding")
    for (const int64_t length : config.lengths)
      if (task["stride"].get<int64_t>() > length)
        fail(ExitCode::kUsage,
             "stride {} is above the length {}, in tasks, some tokens would never be scored: make it smaller",
             task["stride"].get<int64_t>(), length);
  check_data(task, config);
}

void check_long_perplexity(const Json& task, const SweepConfig& config) {
  check_at_least(task, "short_length", 1);
  check_at_least(task, "stride", 1);
  if (task["evaluator"].get<std::string>().empty())
    fail(ExitCode::kUsage,
         "task {} names no evaluator, in tasks, add evaluator: MODEL, a strong one: it chooses the key tokens",
         task["name"].get<std::string>());
  check_data(task, config);
}

void check_attention(const Json& task, const SweepConfig& config) {
  check_at_least(task, "queries", 1);
  check_at_least(task, "first_tokens", 1);
  check_at_least(task, "windows", 1);
  check_data(task, config);
}

void check_posgen(const Json& task, const SweepConfig&) {
  check_at_least(task, "count", 1);
  check_at_least(task, "modulus", 2);
  check_at_least(task, "far", 1);
  check_at_least(task, "near", 1);
  parse_posgen_task(task["subtask"].get<std::string>());
  parse_posgen_split(task["split"].get<std::string>());
  parse_posgen_prefixes(task["prefixes"].get<std::string>());
}

std::vector<std::string> posgen_accuracies() {
  std::vector<std::string> names;
  for (const char* how : {"", "_free"})
    for (const char* which : {"", "_fresh", "_leaky"})
      for (const char* where : {"id_accuracy", "ood_accuracy"}) names.push_back(std::string(where) + which + how);
  return names;
}

void check_retrieval(const Json& task, const SweepConfig&) {
  check_at_least(task, "trials", 1);
  check_at_least(task, "digits", 0);
  check_at_least(task, "new_tokens", 0);
  if (task.contains("depths")) check_at_least(task, "depths", 1);
}

void check_embedding(const Json& task, const SweepConfig&) {
  check_choice(task, "subtask", {"passkey", "needle"});
  check_choice(task, "pooling", {"mean", "last"});
  check_choice(task, "positions", {"consecutive", "grouped", "recurrent", "chunks"});
  check_at_least(task, "queries", 1);
  check_at_least(task, "candidates", std::max<int64_t>(2, task["queries"].get<int64_t>()));
  check_at_least(task, "trained_length", 0);
  check_at_least(task, "digits", 0);
}

void check_ruler(const Json& task, const SweepConfig& config) {
  check_choice(task, "subtask", ruler_subtasks());
  check_retrieval(task, config);
}

void check_needle(const Json& task, const SweepConfig& config) {
  check_retrieval(task, config);
  if (!task["data"].is_null()) check_data(task, config);
  const bool own = task["needle"].get<std::string>().empty();
  const Json& keywords = task["keywords"];
  const bool words = keywords.is_array() && !keywords.empty() &&
                     std::all_of(keywords.begin(), keywords.end(), [](const Json& word) { return word.is_string(); });
  if (own != task["question"].get<std::string>().empty() || own != keywords.is_null() || (!own && !words))
    fail(ExitCode::kUsage, "task {} has a needle of its own only in part, in tasks, give needle, question and keywords",
         task["name"].get<std::string>());
}

}  // namespace

const std::map<std::string, TaskKind>& task_kinds() {
  static const Json generation = {{"trials", 20}, {"digits", 0}, {"new_tokens", 0}, {"seed", 42}, {"samples", false}};
  static const std::vector<std::string> answers{"accuracy", "perfect"};
  const auto with = [](Json keys, const Json& more) {
    keys.update(more);
    return keys;
  };
  static const std::map<std::string, TaskKind> kinds = {
      {"perplexity",
       {"perplexity",
        {{"data", nullptr}, {"window", "full"}, {"stride", 256}, {"aggregation", "token"}},
        check_perplexity,
        run_perplexity,
        {"loss", "perplexity", "bits_per_byte"},
        {}}},
      {"longppl",
       {"longppl",
        {{"data", nullptr},
         {"evaluator", ""},
         {"alpha", 2.0},
         {"beta", -2.0},
         {"short_length", 4096},
         {"stride", 1024}},
        check_long_perplexity,
        run_long_perplexity,
        {"longppl", "loss", "perplexity"},
        {}}},
      {"attention",
       {"entropy",
        {{"data", nullptr}, {"windows", 8}, {"queries", 64}, {"first_tokens", 4}},
        check_attention,
        run_attention,
        {"entropy", "loss", "first_tokens_mass"},
        {}}},
      {"posgen",
       {"ood_accuracy",
        {{"subtask", "recursive"},
         {"modulus", 17},
         {"far", 1},
         {"near", 3},
         {"train_length", 64},
         {"count", 1000},
         {"seed", 42},
         {"split", "test"},
         {"prefixes", "random"},
         {"free_running", false}},
        check_posgen,
        run_posgen,
        {"loss"},
        posgen_accuracies()}},
      {"passkey", {"accuracy", with({{"depths", 11}}, generation), check_retrieval, run_retrieval, {}, answers}},
      {"needle",
       {"accuracy",
        with({{"depths", 11}, {"data", nullptr}, {"needle", ""}, {"question", ""}, {"keywords", nullptr}}, generation),
        check_needle,
        run_retrieval,
        {},
        answers}},
      {"embedding",
       {"accuracy",
        {{"subtask", "passkey"},
         {"pooling", "mean"},
         {"positions", "consecutive"},
         {"trained_length", 0},
         {"queries", 50},
         {"candidates", 100},
         {"digits", 0},
         {"seed", 42}},
        check_embedding,
        run_embedding,
        {},
        {"accuracy", "ndcg_10", "mean_reciprocal_rank", "margin"}}},
      {"ruler", {"accuracy", with({{"subtask", "niah_single"}}, generation), check_ruler, run_retrieval, {}, answers}},
  };
  return kinds;
}

}  // namespace carillon
