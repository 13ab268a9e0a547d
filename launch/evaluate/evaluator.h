// A model with its weights loaded, ready to run points: what `carillon sweep` and `carillon eval` share.
#pragma once

#include <memory>
#include <string>

#include "launch/evaluate/tasks/task.h"
#include "launch/session/opened_model.h"
#include "parallel/process_grid.h"

namespace carillon {

class Evaluator {
 public:
  // `config` gives layout, type, tokenizer and the longest length; it and everything else must outlive this.
  Evaluator(Backend& backend, Communicator& world, const SweepConfig& config, Notice notice);

  // Loads the point's model unless it is the one that is loaded. Metrics on rank 0; collective, errors on every rank
  // alike.
  Json run(const SweepPoint& point);

 private:
  struct Loaded {
    std::string path;
    OpenedModel opened;
    std::unique_ptr<Tokenizer> tokenizer;
    std::unique_ptr<ProcessGrid> grid;
    std::unique_ptr<Scorer> scorer;
    std::unique_ptr<Generator> generator;
  };
  void load(const std::string& path);
  // LongPPL's key tokens for the point's length. What is not known yet is found for all lengths of the sweep at once,
  // with the task's evaluator in the model's place.
  const KeyTokens& key_tokens(const SweepPoint& point);
  void require_same_tokens(const Json& task) const;
  TaskContext context(const SweepPoint& point);

  Backend& backend_;
  Communicator& world_;
  const SweepConfig& config_;
  Notice notice_;
  std::unique_ptr<Loaded> loaded_;
  struct Chosen {
    std::optional<uint64_t> tokenizer;  // hash of the evaluator's
    std::map<int64_t, KeyTokens> by_length;
  };
  std::map<std::string, Chosen> chosen_;  // by the task
};

}  // namespace carillon
