#include "launch/evaluator.h"

#include <algorithm>

#include "launch/ranks.h"
#include "launch/sweep_tasks.h"

namespace carillon {

Evaluator::Evaluator(Backend& backend, Communicator& world, const SweepConfig& config, Notice notice)
    : backend_(backend), world_(world), config_(config), notice_(std::move(notice)) {}

Json Evaluator::run(const SweepPoint& point) {
  if (!loaded_ || loaded_->path != point.path) load(point.path);
  loaded_->scorer->set_rope(merge_rope_config(loaded_->opened.config.rope, point.rope, "rope." + point.rope_name));
  return run_task(world_, *loaded_->scorer, point, config_, loaded_->tokenizer.get(),
                  loaded_->opened.config.vocab_size);
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
      make_grid(world_.split(0, world_.rank(), "world"), config_.parallel, loaded->opened.config));
  loaded->scorer = std::make_unique<Scorer>(backend_, *loaded->grid, loaded->opened.config, config_.runtime.dtype,
                                            config_.parallel.layout, longest);
  load_weights(world_, *loaded->opened.source, loaded->scorer->network().parameters(), notice_);
  loaded_ = std::move(loaded);
}

}  // namespace carillon
