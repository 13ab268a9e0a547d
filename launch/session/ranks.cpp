#include "launch/session/ranks.h"

#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>

#include "parallel/tensor/row_shards.h"
#include "parallel/transport/device_index.h"
#include "parallel/transport/nccl_library.h"
#include "runtime/visible_devices.h"

namespace carillon {
namespace {

// Mentions processors left idle by a launcher that binds each rank to one core.
void mention_idle_processors(int ranks, const RuntimeSection& runtime, const DeviceDescription& device,
                             const Notice& notice) {
  if (runtime.threads || std::getenv("OMP_NUM_THREADS") != nullptr) return;
  const int processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  if (device.threads * ranks < processors)
    notice(
        fmt::format("{} ranks with {} threads each leave {} of {} processors idle; mpirun --bind-to none, or "
                    "runtime.threads={}, uses them",
                    ranks, device.threads, processors - device.threads * ranks, processors, processors / ranks));
}

// Whether several ranks may share a device: through host memory, for tests on a machine with one device, or if the user
// has allowed it in NCCL (2.30 and later).
bool ranks_may_share_a_device() {
  const auto is = [](const char* name, const char* value) {
    const char* found = std::getenv(name);
    return found != nullptr && std::string_view(found) == value;
  };
  return is("CARILLON_DEVICE_TRANSPORT", "staged") || is("NCCL_MULTI_RANK_GPU_ENABLE", "1");
}

}  // namespace

GridShape grid_shape(const ParallelSection& parallel, int ranks) {
  const int64_t inner = parallel.tensor * parallel.context;  // both at most kMostRanks
  if (const int64_t all = inner * parallel.data.value_or(1); inner > kMostRanks || all > kMostRanks)
    fail(ExitCode::kUsage,
         "parallel.data {} · parallel.context {} · parallel.tensor {} is more ranks than any machine has, in the "
         "configuration, {} were started",
         parallel.data.value_or(1), parallel.context, parallel.tensor, ranks);
  if (!parallel.data && ranks % inner != 0)
    fail(ExitCode::kUsage,
         "parallel.tensor {} · parallel.context {} = {} does not divide the {} ranks that were started, in the "
         "configuration, start a multiple of {} ranks (mpirun -n {})",
         parallel.tensor, parallel.context, inner, ranks, inner, (ranks + inner - 1) / inner * inner);
  GridShape shape;
  shape.tensor = static_cast<int>(parallel.tensor);
  shape.context = static_cast<int>(parallel.context);
  shape.data = static_cast<int>(parallel.data.value_or(ranks / inner));
  require_ranks(shape, ranks);
  if (parallel.ring_inner && parallel.ring != RingKind::kTwoLevel)
    fail(ExitCode::kUsage, "parallel.ring_inner {} is of two levels, in the configuration, add parallel.ring=two_level",
         *parallel.ring_inner);
  if (parallel.ring_inner) shape.ring_inner = ring_inner(parallel.ring_choice(), shape, {});
  return shape;
}

ProcessGrid make_grid(Backend& backend, std::unique_ptr<Communicator> world, const NodeMap& nodes,
                      const ParallelSection& parallel, const ModelConfig& model, const Notice& notice) {
  GridShape shape = grid_shape(parallel, world->size());
  shape.ring_inner = ring_inner(parallel.ring_choice(), shape, nodes.node_of_rank);
  require_tensor_parallel(model, shape.tensor);
  int64_t chunks = 0;
  agree(*world, [&] { chunks = requested_tensor_chunks(); });
  if (world->min(chunks) != world->max(chunks))
    fail(ExitCode::kUsage,
         "CARILLON_TENSOR_CHUNKS differs between ranks, in the environment, unset it or give all the "
         "same (mpirun -x CARILLON_TENSOR_CHUNKS)");
  ProcessGrid grid = make_process_grid(std::move(world), shape, TensorShards(model, shape.tensor, 0).kv_replicas);
  if (backend.unified()) return grid;
  carry_device_tensors(grid, backend, make_device_transport);
  static std::once_flag said;
  for (const Communicator* axis : {grid.cp.get(), grid.tp.get(), grid.dp_cp.get()})
    if (const DeviceTransport* transport = device_transport_of(*axis);
        transport != nullptr && transport->through_host())
      std::call_once(said, [&] {
        notice("the device's tensors travel between ranks through host memory, without NCCL: correct, but slow");
      });
  return grid;
}

std::unique_ptr<Communicator> carry_tensors(Backend& backend, std::unique_ptr<Communicator> group) {
  if (backend.unified()) return group;
  return make_device_communicator(backend, std::move(group), make_device_transport);
}

std::unique_ptr<Backend> make_backend(Communicator& world, const NodeMap& nodes, const RuntimeSection& runtime,
                                      const Notice& notice, const ModelConfig* model, bool trains) {
  if (runtime.attention == "cudnn" && runtime.dtype != DType::kBFloat16)
    fail(ExitCode::kUsage,
         "cuDNN's attention is bfloat16, in runtime.attention: cudnn, use native, or runtime.dtype=bfloat16");
  BackendOptions options;
  const bool native = runtime.attention == "auto" && (!trains || runtime.dtype != DType::kBFloat16);
  options.attention = native ? "native" : runtime.attention;
  if (model != nullptr) {
    options.head_size = model->head_dim;
    options.head_group = model->num_attention_heads / model->num_key_value_heads;
  }
  options.device = runtime.device;
  options.threads = static_cast<int>(runtime.threads.value_or(0));
  options.instruction_set = runtime.isa;
  options.lower_libraries = runtime.isa != "auto";
  options.tune = runtime.tune;
  options.traced = trains && (runtime.profile || runtime.trace);
  std::vector<DeviceId> visible;
  agree(world, [&] { visible = visible_devices(runtime.device); });
  options.device_index = device_index(world, nodes, visible, ranks_may_share_a_device());
  std::unique_ptr<Backend> backend;
  agree(world, [&] { backend = make_backend(options); });
  const DeviceDescription device = backend->describe();
  if (runtime.dtype == DType::kBFloat16 && !device.bfloat16_native)
    notice(fmt::format("{} has no bfloat16 products: they are computed in float32, on the same rounded numbers",
                       device.processor));
  if (runtime.tune && device.name != "cuda")
    notice(fmt::format("runtime.tune has no effect on {}, in runtime.tune: true, leave it out", device.name));
  for (const auto& [key, given] : {std::pair{"trace", runtime.trace.has_value()}, {"tensorboard", runtime.tensorboard}})
    if (given && !trains)
      notice(fmt::format("runtime.{} has no effect here, in runtime, leave it out: train alone writes it", key));
  if (device.name == "cpu") mention_idle_processors(nodes.local_ranks(), runtime, device, notice);
  return backend;
}

}  // namespace carillon
