#include "launch/evaluate/evaluator.h"

#include <algorithm>

#include "launch/session/ranks.h"

namespace carillon {

Evaluator::Evaluator(Backend& backend, Communicator& world, const SweepConfig& config, Notice notice)
    : backend_(backend), world_(world), config_(config), notice_(std::move(notice)) {}

TaskContext Evaluator::context(const SweepPoint& point) {
  return {world_,  *loaded_->scorer,         *loaded_->generator,   point,
          config_, loaded_->tokenizer.get(), loaded_->opened.config};
}

Json Evaluator::run(const SweepPoint& point) {
  const KeyTokens* keys = point.task["task"] == "longppl" ? &key_tokens(point) : nullptr;
  if (!loaded_ || loaded_->path != point.path) load(point.path);
  if (keys != nullptr) require_same_tokens(point.task);
  const ModelRope rope = merge_model_rope(loaded_->opened.config, point.rope, "rope." + point.rope_name);
  loaded_->scorer->set_rope(rope);
  loaded_->generator->set_rope(rope);
  TaskContext task = context(point);
  task.key_tokens = keys;
  return run_task(task);
}

const KeyTokens& Evaluator::key_tokens(const SweepPoint& point) {
  Chosen& chosen = chosen_[point.task.dump()];
  if (!chosen.by_length.contains(point.length)) {
    load(point.task["evaluator"].get<std::string>());
    if (loaded_->tokenizer) chosen.tokenizer = loaded_->tokenizer->hash();
    for (const int64_t length : config_.lengths) {
      SweepPoint other = point;
      other.length = length;
      chosen.by_length[length] = select_key_tokens(context(other));
    }
  }
  return chosen.by_length.at(point.length);
}

// Key tokens are numbers of tokens: they mean something to the model only if it cuts text in the same way.
void Evaluator::require_same_tokens(const Json& task) const {
  const std::optional<uint64_t>& theirs = chosen_.at(task.dump()).tokenizer;
  if (theirs && loaded_->tokenizer && *theirs != loaded_->tokenizer->hash())
    fail(ExitCode::kUsage,
         "the evaluator {} has another tokenizer than {}, in task {}, name an evaluator with the same",
         task["evaluator"].get<std::string>(), loaded_->path, task["name"].get<std::string>());
}

void Evaluator::load(const std::string& path) {
  loaded_.reset();
  auto loaded = std::make_unique<Loaded>();
  loaded->path = path;
  loaded->opened = open_model(world_, path, Json::object(), notice_);
  loaded->tokenizer = open_tokenizer(world_, config_.data.tokenizer.value_or(""), loaded->opened.source.get());
  // One token more than the longest window: PosGen's leading EOS.
  const int64_t longest = *std::max_element(config_.lengths.begin(), config_.lengths.end()) + 1;
  loaded->grid = std::make_unique<ProcessGrid>(
      make_grid(backend_, world_.split(0, world_.rank(), "world"), config_.parallel, loaded->opened.config, notice_));
  loaded->scorer = std::make_unique<Scorer>(backend_, *loaded->grid, loaded->opened.config, config_.runtime.dtype,
                                            config_.parallel.layout, longest);
  loaded->generator = std::make_unique<Generator>(backend_, *loaded->grid, loaded->opened.config, config_.runtime.dtype,
                                                  config_.parallel.layout, loaded->scorer->network().parameters());
  load_weights(world_, backend_, *loaded->opened.source, loaded->scorer->network().parameters(), notice_);
  loaded_ = std::move(loaded);
}

}  // namespace carillon
