// What every command that computes with a model opens: ranks, model, tokenizer, device and grid. The order puts cheap
// checks before large allocations:
//   1. the ranks      parallel.* against the number of processes started; which of them share a node
//   2. the model      its source and configuration, with the requested rope merged into its own
//   3. the tokenizer  if the command needs one
//   4. the device     runtime.*, this rank's device on its node
//   5. the grid       the model's heads over parallel.tensor; axes that carry the device's tensors
//   6. the weights    into memory that the command has allocated by then
// Each step is one call, collective over the ranks; an error in it is thrown on every rank (agree). Between the calls a
// command opens its own inputs, outputs and memory. Members are destroyed in reverse order, so a command must declare
// whatever it makes from a session after the session.
#pragma once

#include <memory>
#include <string>

#include "launch/session/opened_model.h"
#include "launch/session/ranks.h"

namespace carillon {

class Session {
 public:
  // Throws error 64 if parallel.* does not fit the ranks of `world`.
  Session(std::unique_ptr<Communicator> world, const ParallelSection& parallel, const RuntimeSection& runtime,
          Notice notice);
  Session(const Session&) = delete;

  // Opens the model at `path` (with the adapter at `adapter`, unless empty), with `rope` merged over its own rope; or
  // the model that a run trains. Closes the previous model and grid: nothing may refer to them any more. Errors 64 to
  // 66.
  void open_model(const std::string& path, const Json& rope, const std::string& adapter = "");
  void open_model(const RunConfig& run);
  // Opens the tokenizer at `path`, or the model's own if `path` is empty. tokenizer() stays null if the model has none.
  void open_tokenizer(const std::string& path);
  // Starts the device for the open model, if there is one. `trains`: see make_backend. Does nothing if it is started
  // already. Error 64.
  void start_device(bool trains = false);
  // Makes the grid for the open model, on a new group of the same ranks. Error 64.
  void make_grid();
  // Fails with error 65 naming a tensor that is missing or has another shape.
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
