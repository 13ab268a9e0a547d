// A model with its weights loaded, ready to run points: what `carillon sweep` and `carillon eval` share.
#pragma once

#include <memory>
#include <string>

#include "launch/evaluate/point_runner.h"
#include "launch/session/session.h"

namespace carillon {

class Evaluator {
 public:
  // Opens models in `session`, whose device must have been started before the first run(). `config` gives the tokenizer
  // and the longest length. Both must outlive this.
  Evaluator(Session& session, const SweepConfig& config) : session_(session), config_(config) {}

  // Loads the point's model unless it is the one that is loaded. Metrics, and where asked for and the task has them the
  // losses by unit, on rank 0; collective, errors on every rank alike.
  Json run(const SweepPoint& point, UnitLosses* units = nullptr);

 private:
  void load(const std::string& path, const std::string& adapter);
  // LongPPL's key tokens for the point's length. What is not known yet is found for all lengths of the sweep at once,
  // with the task's evaluator in the model's place.
  const KeyTokens& key_tokens(const SweepPoint& point);
  void require_same_tokens(const Json& task) const;

  Session& session_;
  const SweepConfig& config_;
  std::string path_, adapter_;           // of the model that is loaded, and of the adapter beside it
  std::unique_ptr<PointRunner> loaded_;  // null: none
  struct Chosen {
    std::optional<uint64_t> tokenizer;  // hash of the evaluator's
    std::map<int64_t, KeyTokens> by_length;
  };
  std::map<std::string, Chosen> chosen_;  // by the task
};

}  // namespace carillon
