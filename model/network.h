// A model on this rank with everything it needs to be trained or evaluated, in one piece of memory: weights,
// activations and, for training, gradients and the optimizer's shards. Nothing is allocated later.
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
  int64_t batch = 1;            // sequences at a time
  int64_t sequence_length = 0;  // T, before padding
  int64_t positions = 0;        // rows of the rotation table, where positions go further than the sequence
  LayoutKind layout = LayoutKind::kZigzag;
  bool training = true;
  // As in TransformerOptions; 0: chosen by the transformer.
  int64_t loss_chunk_rows = 0, tensor_chunks = 0;
  // Training only:
  Recompute recompute = Recompute::kSelective;
  int64_t mlp_tile = 0;              // rows of the MLP at a time, 0: all; not with Recompute::kNone
  Offload offload = Offload::kNone;  // checkpoints not with Recompute::kNone
  uint64_t dropout_seed = 0;         // of the adapters' dropout
  ShardedOptimizer::Options optimizer;
};

// What a network takes on one rank.
struct NetworkMemory {
  size_t bytes = 0;                                    // the one piece that is allocated
  std::map<std::string, size_t, std::less<>> by_name;  // "role.tensor"; phases that share memory are each counted
  size_t host_bytes = 0;                               // the same for what is offloaded
  std::map<std::string, size_t, std::less<>> host_by_name;
};

class Network {
 public:
  // The memory the first constructor below would take, without taking it: measured by the same allocation code. Nothing
  // is computed or exchanged, so `grid` may hold stand-ins that know rank and size only. Errors 64 as the
  // constructor's.
  static NetworkMemory measure(Backend& backend, ProcessGrid& grid, const ModelConfig& config,
                               const NetworkOptions& options);

  // Collective in nothing; `config`, `backend` and `grid` must outlive it. Error 64 when the grid does not fit the
  // model's heads or the sequence is too short, 74 when there is no memory.
  Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options);

  // For evaluation beside training: the activations are its own, the weights are those of `shared`, which must outlive
  // it.
  Network(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const NetworkOptions& options,
          Parameters& shared);

  Backend& backend() { return backend_; }
  const NetworkOptions& options() const { return options_; }
  const SequenceLayout& layout() const { return layout_; }
  Parameters& parameters() { return shared_ != nullptr ? *shared_ : *parts_.parameters; }
  Transformer& transformer() { return *parts_.transformer; }
  ShardedOptimizer& optimizer() { return *parts_.optimizer; }

  // Evaluation only: the same weights for sequences of another length; the activations' memory is used again. The
  // length must not be above options().sequence_length.
  void set_sequence_length(int64_t length);

  size_t bytes() const { return arena_.peak(); }
  size_t host_bytes() const { return host_.peak(); }  // offloaded; not in bytes()
  // "weights 257 MiB, activations 1203 MiB, …": what the memory goes to, largest first, by the part before the dot.
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
