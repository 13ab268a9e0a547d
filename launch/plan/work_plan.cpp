#include "launch/plan/work_plan.h"

#include <algorithm>
#include <cmath>

namespace carillon {
namespace {

// Sums bytes and calls of ops while it reads like the list of them.
struct Ops {
  double bytes = 0, calls = 0;
  void add(double moved, double number = 1) { bytes += moved, calls += number; }
};

// Rows in even parts, and how often a part is multiplied.
struct Parts {
  int64_t rows;
  double count;
  Parts(int64_t all, double parts) : rows(std::llround(static_cast<double>(all) / parts)), count(parts) {}
};

// The products of a linear layer and of its backward pass: dx = dy · W and dW += dyᵀ · x, the last over `summed` rows
// at a time.
void add_linear(WorkPlan& work, const Parts& parts, const Parts& summed, int64_t in, int64_t out, double layers) {
  work.forward.push_back({parts.rows, in, out, layers * parts.count});
  work.backward.push_back({parts.rows, out, in, layers * parts.count});
  work.backward.push_back({out, summed.rows, in, layers * summed.count});
}

}  // namespace

int64_t product_parameters(const ModelConfig& model) {
  const int64_t heads = 2 * model.num_attention_heads + 2 * model.num_key_value_heads;
  const int64_t layer = model.hidden_size * (heads * model.head_dim + 3 * model.intermediate_size);
  return model.num_hidden_layers * layer + model.vocab_size * model.hidden_size;
}

double useful_flops_per_token(const ModelConfig& model, int64_t length) {
  const double width = static_cast<double>(model.num_attention_heads * model.head_dim * model.num_hidden_layers);
  return 6.0 * static_cast<double>(product_parameters(model)) +
         12 * width * useful_pairs(length, model.windows().back()) / static_cast<double>(length);
}

WorkPlan plan_work(const ModelConfig& model, const PlannedRun& run, int64_t tensor_chunks) {
  WorkPlan work;
  work.tensor_chunks = tensor_chunks;
  const NetworkOptions& options = run.network;
  const TensorShards shards(model, run.grid.tensor, 0);
  const SequenceLayout layout = run.layout();
  const int64_t rows = run.rows(), channels = model.hidden_size, width = model.head_dim, mlp = shards.mlp.size();
  const int64_t qkv = (shards.heads + 2 * shards.kv_heads) * width, vocabulary = shards.vocabulary.size();
  // The MLP's tiles, taken as even.
  const double tiles = static_cast<double>((rows + run.mlp_rows() - 1) / run.mlp_rows());
  const double layers = static_cast<double>(model.num_hidden_layers), tensor = run.grid.tensor;
  const double narrow = static_cast<double>(size_of(options.compute));
  const double wide = static_cast<double>(size_of(accumulate_type(options.compute)));

  // A tile is multiplied whole, whatever chunks it lies in.
  const double chunked = static_cast<double>(tensor_chunks);
  const Parts whole(rows, 1), cut(rows, chunked), tile(rows, tiles), mlp_cut = tiles > 1 ? tile : cut;
  add_linear(work, cut, whole, channels, qkv, layers);
  add_linear(work, cut, whole, shards.heads * width, channels, layers);
  add_linear(work, mlp_cut, tile, channels, 2 * mlp, layers);
  add_linear(work, mlp_cut, tile, mlp, channels, layers);
  const bool redo = options.recompute != Recompute::kNone;
  if (redo)  // All but the MLP's second product, whose result nobody needs again.
    work.redone.assign(work.forward.begin(), work.forward.end() - 1);
  work.forward_rings = options.recompute == Recompute::kFull ? 2 : 1;
  work.before_ring = work.redone;
  if (options.recompute == Recompute::kFull)
    work.before_ring.resize(1);  // up to the ring of the forward pass
  else
    work.before_ring.insert(work.before_ring.end(), work.backward.begin() + 2, work.backward.end());  // all but qkv's

  // Rows of logits at a time, as in model/transformer.cpp.
  const int64_t row_bytes = std::max<int64_t>(1, vocabulary * static_cast<int64_t>(wide));
  const int64_t chunk = std::clamp<int64_t>((int64_t{128} << 20) / row_bytes, std::min<int64_t>(rows, 64), rows);
  const double chunks = static_cast<double>((rows + chunk - 1) / chunk);
  const int64_t even = static_cast<int64_t>(static_cast<double>(rows) / chunks + 0.5);
  if (vocabulary > 0)
    work.loss = {{even, channels, vocabulary, chunks},
                 {even, vocabulary, channels, chunks},
                 {vocabulary, even, channels, chunks}};

  // Elementwise ops. T: an element of the compute type, A: of the accumulate type, both in bytes.
  const double residual = static_cast<double>(rows) * static_cast<double>(channels) / tensor * narrow;
  const double heads = static_cast<double>(rows * shards.heads * width);
  const double kv = static_cast<double>(rows * shards.kv_heads * width);
  const double hidden = static_cast<double>(rows * mlp) * narrow;
  Ops forward, again, backward, once;
  const auto project = [&](Ops& ops) {  // norm, (q/k norms), rotation: what selective recomputation does again
    ops.add(2 * residual);
    if (model.any([](const LayerSpec& layer) { return layer.attention.qk_norm != QkNorm::kNone; }))
      ops.add(2 * (heads + 2 * kv) * narrow, 3);
    ops.add(2 * (heads + kv) * narrow);
    ops.add(3 * residual, 1);  // input + attention's output
    ops.add(2 * residual);     // norm before the MLP
    if (model.any([](const LayerSpec& layer) { return layer.attention.qkv_bias; }))
      ops.add(2 * (heads + 2 * kv) * narrow);
  };
  const auto attend = [&](Ops& ops) {
    ops.add(heads * wide);             // the state, written
    ops.add(heads * (wide + narrow));  // finish
    if (run.grid.context > 1) {
      ops.add(4 * kv * narrow, 4);  // own keys and values into the travelling block
      ops.add(heads * 2 * wide * (2 * run.grid.context - 2), 2 * run.grid.context - 2);  // the state, in and out
    }
  };
  project(forward);
  attend(forward);
  forward.add(3 * hidden);    // SwiGLU
  forward.add(3 * residual);  // middle + MLP's output
  forward.add(0, 5);          // products and attention
  project(again);
  again.add(0, 3);
  if (options.recompute == Recompute::kFull) attend(again);
  backward.add(6 * hidden);                  // SwiGLU's gradient, and itself again
  backward.add(2 * 2 * residual, 2);         // both norms again
  backward.add(2 * 4 * residual, 2);         // their gradients, added to the residual's
  backward.add(2 * heads * narrow);          // delta
  backward.add((heads + 2 * kv) * wide, 3);  // accumulators to zero
  backward.add((heads + 2 * kv) * (wide + narrow), 3);
  backward.add(2 * (heads + kv) * narrow);  // rotation back
  if (model.any([](const LayerSpec& layer) { return layer.attention.qk_norm != QkNorm::kNone; }))
    backward.add(5 * (heads + kv) * narrow, 4);
  backward.add(0, 9);
  if (run.grid.context > 1) {
    const double steps = run.grid.context - 1;
    backward.add(4 * kv * narrow, 4);
    backward.add(steps * 2 * kv * 4 * wide, steps * 4);  // parts to zero, and added to what came
    backward.add(steps * heads * 2 * wide, 0);           // dQ, in and out
  }
  // Each product adds to its weight's gradient: that is read and written once, the MLP's once a tile.
  const double layer_weights = static_cast<double>(channels) * static_cast<double>(qkv + shards.heads * width) +
                               tiles * static_cast<double>(channels * 3 * mlp);
  backward.add(2 * wide * layer_weights, 0);
  forward.add(0, 3 * (tiles - 1));
  backward.add(0, 6 * (tiles - 1));
  const double more = chunked - 1, mlp_more = tiles > 1 ? 0 : more;  // products: chunks of one
  forward.add(0, 2 * (more + mlp_more));
  again.add(0, 2 * more + mlp_more);
  backward.add(0, 2 * (more + mlp_more));

  const double logits = static_cast<double>(rows) * static_cast<double>(vocabulary);
  once.add(2 * static_cast<double>(rows * channels) * narrow);           // embedding
  once.add(static_cast<double>(rows * channels) * (narrow + 2 * wide));  // its gradient
  once.add(2 * residual + 4 * residual, 2);                              // last norm, forward and backward
  once.add(logits * (3 * wide + narrow), 3 * chunks);
  once.add(chunks * 2 * wide * static_cast<double>(vocabulary * channels), 4 * chunks);
  once.add(0, 10);  // uploads and downloads of the batch
  const double again_times = redo ? 1 : 0;
  work.moved_bytes = layers * (forward.bytes + backward.bytes + again_times * again.bytes) + once.bytes;
  work.ops = layers * (forward.calls + backward.calls + again_times * again.calls) + once.calls;

  const RingAttention::Shape shape{options.batch,   shards.heads, shards.kv_heads,    width,
                                   options.compute, true,         run.grid.ring_inner};
  work.ring = plan_ring(layout, shape, model.windows().back());
  work.attention_batch_heads = options.batch * shards.heads;

  if (offloads_checkpoints(options.offload)) {
    work.offloaded_layers = std::max(0.0, layers - 2);
    work.offloaded_layer_bytes = residual;
    if (options.recompute == Recompute::kSelective)
      work.offloaded_layer_bytes += heads * narrow + static_cast<double>(rows * shards.heads) * wide;
  }

  if (run.grid.tensor > 1) {
    // Gathers and scatters of the residual: 4 forward, 6 backward, 3 redone a layer; embedding and loss 2 each.
    const double exchange = static_cast<double>(rows * channels) * narrow * (tensor - 1) / tensor;
    work.tensor_exchange_bytes = exchange;
    work.tensor_layer_exchanges = 10 + (redo ? 3 : 0);
    work.tensor_calls = chunked * (layers * work.tensor_layer_exchanges + 2) + 2 * chunks;
    work.tensor_bytes = (layers * work.tensor_layer_exchanges + 4) * exchange;
    work.tensor_bytes += 2 * 3 * static_cast<double>(rows) * wide * (tensor - 1) / tensor;  // loss statistics
    work.tensor_calls += 2 * chunks;
  }

  const int64_t dp_cp = int64_t{run.grid.data} * run.grid.context;
  Arena measuring;
  Parameters parameters(model, shards, {options.compute, true, false}, measuring);
  const double sent =
      (options.optimizer.zero == 0 ? 2 : 1) * wide * static_cast<double>(dp_cp - 1) / static_cast<double>(dp_cp);
  parameters.for_each([&](Parameter& parameter) {
    WorkPlan::Bucket* bucket = parameter.group < 0                          ? &work.embedding_gradients
                               : parameter.group == model.num_hidden_layers ? &work.head_gradients
                               : parameter.group == 0                       ? &work.layer_gradients
                                                                            : nullptr;
    if (bucket != nullptr) {
      bucket->bytes += sent * static_cast<double>(parameter.weight.count());
      ++bucket->tensors;
    }
    const int64_t row = parameter.weight.size(0) == 0 ? 0 : parameter.weight.count() / parameter.weight.size(0);
    work.local_parameters += parameter.weight.count();
    work.owned_parameters += options.optimizer.zero == 0 ? parameter.weight.count()
                                                         : share_of(parameter.weight.size(0), dp_cp, 0).size() * row;
    ++work.parameter_tensors;
  });
  const double local = static_cast<double>(work.local_parameters), owned = static_cast<double>(work.owned_parameters);
  const double share = static_cast<double>(dp_cp - 1) / static_cast<double>(dp_cp);
  if (offloads_optimizer(options.offload)) work.offloaded_state_bytes = owned * (narrow == wide ? 2 : 3) * wide;
  work.gradient_bytes = sent * local;
  work.weight_bytes = options.optimizer.zero == 0 ? 0 : local * narrow * share;
  const double reductions = options.optimizer.zero == 2 ? static_cast<double>(run.accumulation) : 1;
  // ZeRO 2 zeroes the full gradients after every micro-step and adds its rows to the shard.
  work.optimizer_moved_bytes = local * wide + owned * wide + owned * (7 * wide + narrow);
  if (dp_cp > 1) work.optimizer_moved_bytes += reductions * (local + owned) * wide;
  if (options.optimizer.zero == 2) work.optimizer_moved_bytes += reductions * (local + 3 * owned) * wide;
  return work;
}

}  // namespace carillon
