#include "model/network.h"

#include <algorithm>

namespace carillon {
namespace {

const ModelConfig& checked(const ModelConfig& config, const ProcessGrid& grid) {
  require_tensor_parallel(config, grid.shape.tensor);
  return config;
}

}  // namespace

Network::Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options)
    : backend_(backend),
      grid_(grid),
      config_(checked(config, grid)),
      options_(options),
      shards_(config, grid.shape.tensor, grid.tp_rank),
      layout_(options.layout, options.sequence_length, grid.shape.context, grid.shape.tensor) {
  measure_and_allocate();
}

Network::Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options,
                 Parameters& shared)
    : backend_(backend),
      grid_(grid),
      config_(checked(config, grid)),
      options_(options),
      shared_(&shared),
      shards_(config, grid.shape.tensor, grid.tp_rank),
      layout_(options.layout, options.sequence_length, grid.shape.context, grid.shape.tensor) {
  CHECK(!options.training, "weights are shared for evaluation only");
  measure_and_allocate();
}

Network::Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options,
                 Arena& measuring, Arena& host)
    : backend_(backend),
      grid_(grid),
      config_(checked(config, grid)),
      options_(options),
      shards_(config, grid.shape.tensor, grid.tp_rank),
      layout_(options.layout, options.sequence_length, grid.shape.context, grid.shape.tensor) {
  CHECK(measuring.measuring(), "nothing is allocated to measure");
  allocate(measuring, host);
}

NetworkMemory Network::measure(Backend& backend, ProcessGrid& grid, const ModelConfig& config,
                               const NetworkOptions& options) {
  Arena measuring, host;
  const Network network(backend, grid, config, options, measuring, host);
  return {measuring.peak(), measuring.bytes_by_name(), host.peak(), host.bytes_by_name()};
}

void Network::measure_and_allocate() {
  Arena measuring, host;
  allocate(measuring, host);
  arena_ = Arena(backend_.allocate(measuring.peak()));
  if (host.peak() > 0) host_ = Arena(backend_.allocate_host(host.peak()));
  parts_ = allocate(arena_, host_);
  CHECK(arena_.peak() == measuring.peak() && host_.peak() == host.peak(), "memory is allocated as it was measured",
        arena_.peak(), measuring.peak());
}

Network::Parts Network::allocate(Arena& arena, Arena& host) {
  Parts parts;
  ParameterOptions parameter_options;
  parameter_options.compute = options_.compute;
  parameter_options.gradients = options_.training;
  parameter_options.shared_layer_gradients = options_.training && options_.optimizer.zero == 2;
  if (shared_ == nullptr) parts.parameters = std::make_unique<Parameters>(config_, shards_, parameter_options, arena);
  after_weights_ = arena.mark();
  // The transformer keeps a reference to the parameters, so it must get those allocated here.
  std::swap(parts_.parameters, parts.parameters);
  parts.transformer = allocate_transformer(arena, host);
  std::swap(parts_.parameters, parts.parameters);
  if (options_.training) {
    ShardedOptimizer::Options optimizer = options_.optimizer;
    optimizer.offload = offloads_optimizer(options_.offload);
    parts.optimizer =
        std::make_unique<ShardedOptimizer>(backend_, grid_, parts.parameters->trained(), optimizer, arena, &host);
  }
  return parts;
}

std::unique_ptr<Transformer> Network::allocate_transformer(Arena& arena, Arena& host) {
  TransformerOptions options;
  options.compute = options_.compute;
  options.recompute = options_.recompute;
  options.training = options_.training;
  options.batch = options_.batch;
  options.positions = std::max(layout_.padded(), options_.positions);
  options.mlp_tile = options_.mlp_tile;
  options.loss_chunk_rows = options_.loss_chunk_rows;
  options.tensor_chunks = options_.tensor_chunks;
  options.dropout_seed = options_.dropout_seed;
  options.offload_checkpoints = options_.training && offloads_checkpoints(options_.offload);
  return std::make_unique<Transformer>(backend_, grid_, config_, shards_, parameters(), layout_, options, arena, &host);
}

void Network::set_sequence_length(int64_t length) {
  CHECK(!options_.training && length <= options_.sequence_length, "only evaluation changes its length, downwards",
        length, options_.sequence_length);
  if (length == layout_.length()) return;
  layout_ = SequenceLayout(options_.layout, length, grid_.shape.context, grid_.shape.tensor);
  parts_.transformer.reset();
  arena_.rewind(after_weights_);
  parts_.transformer = allocate_transformer(arena_, host_);
}

std::string Network::memory_summary() const {
  std::map<std::string, size_t> roles;
  for (const auto& [name, bytes] : arena_.bytes_by_name()) roles[name.substr(0, name.find('.'))] += bytes;
  std::vector<std::pair<std::string, size_t>> sorted(roles.begin(), roles.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (const auto& [role, bytes] : sorted)
    text += fmt::format("{}{} {:.1f} MiB", text.empty() ? "" : ", ", role, static_cast<double>(bytes) / (1 << 20));
  return text;
}

}  // namespace carillon
