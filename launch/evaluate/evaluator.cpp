#include "launch/evaluate/evaluator.h"

namespace carillon {

Json Evaluator::run(const SweepPoint& point, UnitLosses* units) {
  const KeyTokens* keys = point.task["task"] == "longppl" ? &key_tokens(point) : nullptr;
  const std::string adapter = config_.adapter.value_or("");
  if (!loaded_ || path_ != point.path || adapter_ != adapter) load(point.path, adapter);
  if (keys != nullptr) require_same_tokens(point.task);
  return loaded_->run(point, keys, units);
}

const KeyTokens& Evaluator::key_tokens(const SweepPoint& point) {
  Chosen& chosen = chosen_[point.task.dump()];
  if (!chosen.by_length.contains(point.length)) {
    load(point.task["evaluator"].get<std::string>(), "");
    if (session_.tokenizer() != nullptr) chosen.tokenizer = session_.tokenizer()->hash();
    for (const int64_t length : config_.lengths) {
      SweepPoint other = point;
      other.length = length;
      chosen.by_length[length] = loaded_->select(other);
    }
  }
  return chosen.by_length.at(point.length);
}

// Key tokens are indices of tokens, so they apply to the model only if both tokenizers are equal.
void Evaluator::require_same_tokens(const Json& task) const {
  const std::optional<uint64_t>& theirs = chosen_.at(task.dump()).tokenizer;
  if (theirs && session_.tokenizer() != nullptr && *theirs != session_.tokenizer()->hash())
    fail(ExitCode::kUsage,
         "the evaluator {} has another tokenizer than {}, in task {}, name an evaluator with the same",
         task["evaluator"].get<std::string>(), path_, task["name"].get<std::string>());
}

void Evaluator::load(const std::string& path, const std::string& adapter) {
  loaded_.reset();
  session_.open_model(path, Json::object(), adapter);
  session_.open_tokenizer(config_.data.tokenizer.value_or(""));
  session_.make_grid();
  std::unique_ptr<PointRunner> runner;
  agree(session_.world(), [&] {
    runner = std::make_unique<PointRunner>(session_.backend(), session_.grid(), session_.model().config, config_,
                                           session_.tokenizer(), "rope");
  });
  session_.load_weights(runner->parameters());
  loaded_ = std::move(runner);
  path_ = path, adapter_ = adapter;
}

}  // namespace carillon
