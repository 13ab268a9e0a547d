// A model with its weights loaded, ready to run points: what `carillon sweep` and `carillon eval` share.
#pragma once

#include <memory>
#include <string>

#include "launch/opened_model.h"
#include "launch/scorer.h"
#include "launch/sweep_config.h"
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
  };
  void load(const std::string& path);

  Backend& backend_;
  Communicator& world_;
  const SweepConfig& config_;
  Notice notice_;
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace carillon
