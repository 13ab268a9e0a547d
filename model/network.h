// A model on this rank with everything needed to train or evaluate it, in one allocation: weights, activations and, for
// training, gradients and the optimizer's shards. Nothing is allocated later.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "parallel/optimizer/sharded_optimizer.h"

namespace carillon {

struct NetworkOptions {
  DType compute = DType::kBFloat16;
  int64_t batch = 1;            // sequences per micro-batch
  int64_t sequence_length = 0;  // T, before padding
  int64_t positions = 0;        // rows of the rotation table, if positions exceed the sequence length
  LayoutKind layout = LayoutKind::kZigzag;
  bool training = true;
  // As in TransformerOptions; 0: the transformer chooses.
  int64_t loss_chunk_rows = 0, tensor_chunks = 0;
  // Training only:
  Recompute recompute = Recompute::kSelective;
  int64_t mlp_tile = 0;              // rows per MLP tile, 0: all; not with Recompute::kNone
  Offload offload = Offload::kNone;  // checkpoints: not with Recompute::kNone
  uint64_t dropout_seed = 0;         // of the adapters' dropout
  ShardedOptimizer::Options optimizer;
};

// Memory that a network needs on one rank.
struct NetworkMemory {
  size_t bytes = 0;                                    // the single allocation
  std::map<std::string, size_t, std::less<>> by_name;  // "role.tensor"; phases that share memory are counted separately
  size_t host_bytes = 0;                               // the same for offloaded tensors
  std::map<std::string, size_t, std::less<>> host_by_name;
};

class Network {
 public:
  // Returns the memory that the first constructor below would allocate, without allocating it; the same allocation code
  // measures it. Nothing is computed or exchanged, so `grid` may hold stand-ins that only know rank and size. Fails
  // with error 64 as the constructor does.
  static NetworkMemory measure(Backend& backend, ProcessGrid& grid, const ModelConfig& config,
                               const NetworkOptions& options);

  // Not collective. `config`, `backend` and `grid` must outlive it. Fails with error 64 if the grid does not fit the
  // model's heads or the sequence is too short, and with error 74 if there is not enough memory.
  Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options);

  // For evaluation during training: allocates its own activations and uses the weights of `shared`, which must outlive
  // it.
  Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options,
          Parameters& shared);

  Backend& backend() { return backend_; }
  const NetworkOptions& options() const { return options_; }
  const SequenceLayout& layout() const { return layout_; }
  Parameters& parameters() { return shared_ != nullptr ? *shared_ : *parts_.parameters; }
  Transformer& transformer() { return *parts_.transformer; }
  ShardedOptimizer& optimizer() { return *parts_.optimizer; }

  // Evaluation only: keeps the weights and sets another sequence length, at most options().sequence_length. Reuses the
  // memory of the activations.
  void set_sequence_length(int64_t length);

  size_t bytes() const { return arena_.peak(); }
  size_t host_bytes() const { return host_.peak(); }  // of offloaded tensors; not in bytes()
  // "weights 257 MiB, activations 1203 MiB, …": memory by the part of the name before the dot, largest first.
  std::string memory_summary() const;

 private:
  Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options,
          Arena& measuring, Arena& host);
  void measure_and_allocate();
  struct Parts {
    std::unique_ptr<Parameters> parameters;
    std::unique_ptr<Transformer> transformer;
    std::unique_ptr<ShardedOptimizer> optimizer;
  };
  Parts allocate(Arena& arena, Arena& host);
  std::unique_ptr<Transformer> allocate_transformer(Arena& arena, Arena& host);

  Backend& backend_;
  ProcessGrid& grid_;
  const ModelConfig& config_;
  NetworkOptions options_;
  Parameters* shared_ = nullptr;
  TensorShards shards_;
  SequenceLayout layout_;
  size_t after_weights_ = 0;
  Arena arena_;
  Arena host_;
  Parts parts_;
};

}  // namespace carillon
