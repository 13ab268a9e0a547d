// What every command that computes with a model opens: ranks, model, tokenizer, device and grid, in this order, so that
// what is cheap to find wrong is found before anything large is made:
//   1. the ranks      parallel.* against the number that was started, and which of them share a node
//   2. the model      its source and configuration, its rope merged with the one asked for
//   3. the tokenizer  where the command wants one
//   4. the device     runtime.*, this rank's on its node
//   5. the grid       the model's heads over parallel.tensor; axes that carry the device's tensors
//   6. the weights    into memory that the command has allocated by then
// Each step is one call, collective over the ranks, whose error comes on every rank alike (agree). Between the calls a
// command opens what is its own: inputs, outputs, memory. Everything below is destroyed in reverse order, so what a
// command makes from a session must be declared after it.
#pragma once

#include <memory>
#include <string>

#include "launch/session/opened_model.h"
#include "launch/session/ranks.h"

namespace carillon {

class Session {
 public:
  // Error 64 when parallel.* does not fit the ranks of `world`.
  Session(std::unique_ptr<Communicator> world, const ParallelSection& parallel, const RuntimeSection& runtime,
          Notice notice);
  Session(const Session&) = delete;

  // The model at `path` (with the adapter at `adapter`, unless empty), `rope` merged over its own rope; or the one a
  // run trains. A model and grid that were open are closed: nothing may refer to them any more. Errors 64 to 66.
  void open_model(const std::string& path, const Json& rope, const std::string& adapter = "");
  void open_model(const RunConfig& run);
  // The one at `path`, or where that is empty the model's own, which may be none: tokenizer() is then null.
  void open_tokenizer(const std::string& path);
  // For the model that is open, if one is; `trains`: see make_backend. Does nothing when the device is there already.
  // Error 64.
  void start_device(bool trains = false);
  // For the model that is open, on a group of its own of the same ranks. Error 64.
  void make_grid();
  // Error 65 naming the tensor that is missing or has another shape.
  void load_weights(Parameters& parameters);

  Communicator& world() { return *world_; }
  bool main_rank() const { return world_->rank() == 0; }
  const NodeMap& nodes() const { return nodes_; }
  const ParallelSection& parallel() const { return parallel_; }
  const RuntimeSection& runtime() const { return runtime_; }
  const Notice& notice() const { return notice_; }
  OpenedModel& model() { return model_; }
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  Backend& backend() const { return *backend_; }
  ProcessGrid& grid() { return grid_; }

 private:
  void close_grid();

  std::unique_ptr<Communicator> world_;
  ParallelSection parallel_;
  RuntimeSection runtime_;
  Notice notice_;
  NodeMap nodes_;
  OpenedModel model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Backend> backend_;
  ProcessGrid grid_;  // its axes carry the backend's tensors
};

}  // namespace carillon
