#include "launch/session/session.h"

#include "runtime/progress.h"

namespace carillon {

Session::Session(std::unique_ptr<Communicator> world, const ParallelSection& parallel, const RuntimeSection& runtime,
                 Notice notice)
    : world_(std::move(world)), parallel_(parallel), runtime_(runtime), notice_(std::move(notice)) {
  set_patience(runtime_.patience);
  (void)grid_shape(parallel_, world_->size());
  nodes_ = map_nodes(*world_);
}

void Session::open_model(const std::string& path, const Json& rope, const std::string& adapter) {
  close_grid();
  model_ = carillon::open_model(*world_, path, rope, notice_, adapter);
}

void Session::open_model(const RunConfig& run) {
  close_grid();
  model_ = open_run_model(*world_, run, notice_);
}

void Session::close_grid() { (void)ProcessGrid(std::move(grid_)); }

void Session::open_tokenizer(const std::string& path) {
  tokenizer_ = carillon::open_tokenizer(*world_, path, model_.source.get());
}

void Session::start_device(bool trains) {
  if (!backend_)
    backend_ =
        make_backend(*world_, nodes_, runtime_, notice_, model_.config.head_dim > 0 ? &model_.config : nullptr, trains);
}

void Session::make_grid() {
  CHECK(backend_, "a grid carries a device's tensors");
  grid_ = carillon::make_grid(*backend_, world_->split(0, world_->rank(), "world"), nodes_, parallel_, model_.config,
                              notice_);
}

void Session::load_weights(Parameters& parameters) {
  CHECK(model_.source, "weights are loaded from an opened model");
  carillon::load_weights(*world_, *backend_, *model_.source, parameters, notice_);
}

}  // namespace carillon
