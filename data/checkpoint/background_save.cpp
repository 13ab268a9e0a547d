#include "data/checkpoint/background_save.h"

#include <new>
#include <system_error>
#include <utility>

#include "runtime/available_memory.h"
#include "runtime/signals_blocked.h"

namespace carillon {

BackgroundSave::BackgroundSave(Communicator& world, std::string folder, int64_t keep)
    : world_(world), folder_(std::move(folder)), keep_(keep) {}

BackgroundSave::~BackgroundSave() {
  if (thread_.joinable()) thread_.join();
  if (remover_.joinable()) remover_.join();
}

std::string BackgroundSave::reserve(const std::vector<NamedShard>& shards) {
  const size_t bytes = CheckpointCopy::bytes_for(shards);
  std::string lack;
  const int64_t available = available_memory(Swap::kLeftOut);
  if (available >= 0 && 1.2 * static_cast<double>(bytes) > static_cast<double>(available))
    lack = fmt::format("{:.1f} MiB are available", static_cast<double>(available) / (1 << 20));
  try {
    // Zero-filled, so that the pages are mapped before the first copy.
    if (lack.empty()) copy_.memory = Buffer::host(bytes);
  } catch (const Error&) {
    lack = "that much cannot be allocated";
  }
  const int64_t first = world_.min(lack.empty() ? int64_t{world_.size()} : int64_t{world_.rank()});
  if (first == world_.size()) return "";
  copy_.memory = {};
  return broadcast_text(world_,
                        fmt::format("rank {} needs {:.1f} MiB for a copy of its part, and a fifth to spare; {}",
                                    world_.rank(), static_cast<double>(bytes) / (1 << 20), lack),
                        static_cast<int>(first));
}

SaveResult BackgroundSave::begin(Manifest manifest, const std::vector<NamedShard>& shards,
                                 std::function<void()> records) {
  CHECK(!in_flight(), "one save at a time", manifest.step);
  if (remover_.joinable()) remover_.join();
  auto save = std::make_unique<CheckpointSave>(world_, folder_, std::move(manifest));
  try {
    save->prepare(shards);
    save->begin_copy(copy_);
  } catch (const NoSpace& lack) {
    return save->give_up(lack);
  }
  save_ = std::move(save);
  written_ = false;
  copied_ = false;
  error_ = nullptr;
  agree(world_, [&] {
    const SignalsBlocked blocked;
    try {
      thread_ = std::thread([this, records = std::move(records)] { run(records); });
    } catch (const std::system_error& error) {
      copied_ = true;
      fail(ExitCode::kInputOutput,
           "no thread can be started to write a checkpoint ({}), in this process, raise the limit on processes or set "
           "checkpoint.async=false",
           error.what());
    }
  });
  return {};
}

void BackgroundSave::run(const std::function<void()>& records) {
  const auto let_tensors_change = [this] {
    copied_.store(true, std::memory_order_release);
    copied_.notify_all();
  };
  try {
    save_->finish_copy(copy_);
    let_tensors_change();
    if (world_.rank() == 0 && records) records();
    save_->write(copy_);
  } catch (...) {
    error_ = std::current_exception();
    let_tensors_change();
  }
  written_.store(true, std::memory_order_release);
}

SaveResult BackgroundSave::finish(int64_t best) {
  CHECK(in_flight(), "a save to be finished");
  thread_.join();
  const std::unique_ptr<CheckpointSave> save = std::move(save_);
  const std::exception_ptr error = std::exchange(error_, nullptr);
  try {
    SaveResult result = save->commit(keep_, best, error);
    remove(save->superseded());
    return result;
  } catch (const NoSpace& lack) {
    return save->give_up(lack);
  }
}

void BackgroundSave::remove(std::vector<std::string> folders) {
  if (folders.empty()) return;
  if (remover_.joinable()) remover_.join();
  const SignalsBlocked blocked;
  try {
    remover_ = std::thread([folders] { remove_folders(folders); });
  } catch (const std::system_error&) {
    remove_folders(folders);  // no thread could be started: training waits
  }
}

}  // namespace carillon
