// A model with its weights loaded, ready to run points: shared by `carillon sweep` and `carillon eval`.
#pragma once

#include <memory>
#include <string>

#include "launch/evaluate/point_runner.h"
#include "launch/session/session.h"

namespace carillon {

class Evaluator {
 public:
  // Opens models in `session`, whose device must be started before the first run(). `config` gives the tokenizer and
  // the longest length. Both must outlive this object.
  Evaluator(Session& session, const SweepConfig& config) : session_(session), config_(config) {}

  // Runs a point, first loading its model if another one is loaded. Returns the metrics on rank 0, and fills `units`
  // there if requested and the task has losses by unit. Collective; errors are thrown on every rank.
  Json run(const SweepPoint& point, UnitLosses* units = nullptr);

 private:
  void load(const std::string& path, const std::string& adapter);
  // Returns LongPPL's key tokens for the point's length. If they are not known yet, finds them for all lengths of the
  // sweep at once, which loads the task's evaluator in place of the model.
  const KeyTokens& key_tokens(const SweepPoint& point);
  void require_same_tokens(const Json& task) const;

  Session& session_;
  const SweepConfig& config_;
  std::string path_, adapter_;           // of the loaded model and its adapter
  std::unique_ptr<PointRunner> loaded_;  // null: none
  struct Chosen {
    std::optional<uint64_t> tokenizer;  // hash of the evaluator's tokenizer
    std::map<int64_t, KeyTokens> by_length;
  };
  std::map<std::string, Chosen> chosen_;  // by task
};

}  // namespace carillon
