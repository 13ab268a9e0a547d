#include "model/transformer.h"

#include "runtime/progress.h"

#include <algorithm>

#include "parallel/injected_fault.h"

namespace carillon {
namespace {

// Rows of logits alive at once: about 192 MiB of them. Each chunk reads the weight and its gradient once, which is
// noticeable with few rows (128 MiB: 2 %, 65 MiB: 6 % of a step of the 135M model at 2048 tokens).
int64_t default_chunk_rows(int64_t rows, int64_t vocabulary, DType compute) {
  constexpr int64_t kBytes = int64_t{192} << 20;
  const int64_t row_bytes = std::max<int64_t>(1, vocabulary * static_cast<int64_t>(size_of(accumulate_type(compute))));
  return std::clamp<int64_t>(kBytes / row_bytes, std::min<int64_t>(rows, 64), rows);
}

int64_t local_rows(const SequenceLayout& layout, const TransformerOptions& options) {
  return options.one_token ? 1 : layout.local();
}

// The shards of `rows`, in `chunks` chunks; 0: as many as pay off.
RowShards row_shards(int64_t rows, const Communicator& tp, int64_t chunks) {
  if (chunks == 0) chunks = tensor_chunks(rows / tp.size(), tp.size(), overlaps_with_compute(tp));
  return {rows, tp.size(), chunks};
}

ActivationShape shape_of(const SequenceLayout& layout, const TransformerOptions& options, int tp) {
  const int64_t local = local_rows(layout, options), rows = options.batch * local;
  return {options.batch,
          local,
          rows,
          rows / tp,
          options.compute,
          options.training,
          options.recompute,
          options.offload_checkpoints,
          options.mlp_tile == 0 ? rows : std::min(options.mlp_tile, rows)};
}

std::vector<int> masks_of(const ModelConfig& config) {
  const std::vector<int64_t> windows = config.windows();
  std::vector<int> masks;
  for (const LayerSpec& layer : config.layers)
    masks.push_back(
        static_cast<int>(std::find(windows.begin(), windows.end(), layer.attention.window) - windows.begin()));
  return masks;
}

// Converts doubles, multiplied by `times` if it is not empty, to memory of the accumulate type.
void convert_to(std::vector<char>& to, DType type, std::span<const double> from, std::span<const double> times) {
  dispatch_floating(type, [&](auto zero) {
    using A = decltype(zero);
    A* values = reinterpret_cast<A*>(to.data());
    for (size_t i = 0; i < from.size(); ++i) values[i] = static_cast<A>(times.empty() ? from[i] : from[i] * times[i]);
  });
}

}  // namespace

Transformer::Transformer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const TensorShards& shards,
                         Parameters& parameters, const SequenceLayout& layout, const TransformerOptions& options,
                         Arena& arena, Arena* host)
    : backend_(backend),
      grid_(grid),
      config_(config),
      shards_(shards),
      parameters_(parameters),
      layout_(layout),
      options_(options),
      local_(local_rows(layout, options)),
      row_shards_(row_shards(options.batch * local_rows(layout, options), *grid.tp, options.tensor_chunks)),
      mlp_tiled_(shape_of(layout, options, shards.tp).tiled()),
      norm_options_{.weight_offset = config.norm_weight_offset},
      windows_(config.windows()),
      masks_(masks_of(config)),
      activations_(allocate_kept_activations(config, shards, shape_of(layout, options, shards.tp), arena)),
      work_(allocate_persistent_memory(config, shape_of(layout, options, shards.tp), arena)),
      batch_(allocate_batch(config, shape_of(layout, options, shards.tp), arena)),
      rotations_(backend, config, parameters,
                 {options.compute, options.positions, options.training, /*generation=*/options.cache != nullptr},
                 arena),
      staged_first_(windows_.size(),
                    std::vector<int64_t>(arena.measuring() ? 0 : static_cast<size_t>(options.batch * local_))),
      staged_position_(arena.measuring() ? 0 : static_cast<size_t>(options.batch * local_)),
      staged_row_(arena.measuring() || !batch_.row ? 0 : static_cast<size_t>(options.batch * local_)),
      staged_weight_(arena.measuring()
                         ? 0
                         : static_cast<size_t>(options.batch * local_) * size_of(accumulate_type(options.compute))),
      staged_factor_(arena.measuring() ? 0 : batch_.query_factor.bytes()) {
  CHECK(options.cache == nullptr || !options.training, "a cache is for generation");
  CHECK(options.cache != nullptr || !options.one_token, "one token needs a cache");
  if (options.training && options.recompute == Recompute::kNone)
    CHECK(!options.offload_checkpoints && !mlp_tiled_, "what is kept whole is neither offloaded nor tiled");
  if (options.offload_checkpoints) {
    CHECK(options.training && host != nullptr, "activations are offloaded in training, to host memory");
    offload_.emplace(backend, activations_.layers, options.recompute, *host);
  }
  const int64_t rows = options.batch * local_;
  const DType wide = accumulate_type(options.compute);
  if (!options.one_token)
    ring_.emplace(backend, *grid.cp, layout,
                  RingAttention::Shape{options.batch, shards.heads, shards.kv_heads, config.head_dim, options.compute,
                                       options.training, grid.shape.ring_inner, static_cast<int>(windows_.size())},
                  arena);
  if (options.one_token) logits_ = arena.allocate("loss.logits", wide, {rows, shards.vocabulary.size()});
  if (options.cache == nullptr) losses_ = arena.allocate("loss.rows", wide, {rows});
  if (options.cache == nullptr && !options.training) {
    margins_ = arena.allocate("loss.rows", wide, {rows});
    pool_weight_ = arena.allocate("loss.pool", options.compute, {1, rows});
    pool_sum_ = arena.allocate("loss.pool", wide, {1, config.hidden_size});
  }
  if (options.cache == nullptr) {
    const int64_t chunk = options.loss_chunk_rows > 0
                              ? options.loss_chunk_rows
                              : default_chunk_rows(rows, shards.vocabulary.size(), options.compute);
    loss_.emplace(backend, *grid.tp, row_shards_, config.hidden_size, shards.vocabulary.size(), shards.vocabulary.begin,
                  chunk, options.compute, arena, /*with_margins=*/!options.training, config.logit_cap);
  }

  // What the layers refill for their backward pass and what the loss computes with are never alive together.
  const ActivationShape shape = shape_of(layout, options, shards.tp);
  const size_t begin = arena.mark();
  allocate_shared_activations(config, shards, shape, arena, activations_);
  allocate_transient_memory(config, shards, shape, arena, work_);
  if (ring_) ring_->allocate_work(arena);
  if (options.cache != nullptr) return;
  const size_t layers_end = arena.used();
  arena.rewind(begin);
  loss_->allocate_work(arena);
  arena.advance(layers_end);
  if (!arena.measuring()) staged_loss_.resize(losses_.bytes());
}

LowRankWork Transformer::adapter_work(int64_t begin, int64_t end) const {
  LowRankWork work = work_.adapter;
  work.rows = end - begin;
  if (!batch_.row) return work;
  work.row = batch_.row.rows(begin, end);
  work.dropout.probability = config_.adapter.dropout;
  work.dropout.seed = options_.dropout_seed;
  if (injected(InjectedFault::kAdapterDropoutByRank))
    work.dropout.seed += static_cast<uint64_t>(1 + grid_.cp_rank * shards_.tp + shards_.tp_rank);
  return work;
}

void Transformer::set_batch(const MicroBatch& batch, int64_t index) {
  const auto first = batch.first.span<int64_t>();
  const auto position = batch.position.span<int64_t>();
  std::copy(position.begin(), position.end(), staged_position_.begin());
  for (int64_t row = 0; row < static_cast<int64_t>(first.size()); ++row) {
    CHECK(position[row] < options_.positions, "position beyond the rotation table", position[row], options_.positions);
    const int64_t own = options_.one_token ? index : layout_.index_of(grid_.cp_rank, row % local_);
    if (rotations_.mixed() && first[row] <= own) {
      const int64_t reach = batch.reach.span<int64_t>()[static_cast<size_t>(row)];
      CHECK(reach > position[row], "a document reaches beyond each of its positions", reach, position[row]);
      staged_position_[static_cast<size_t>(row)] = rotations_.row(position[row], reach);
    }
    // A sliding window W lets token i see j with 0 <= i - j < W; an empty interval (padding) stays empty.
    for (size_t mask = 0; mask < windows_.size(); ++mask)
      staged_first_[mask][static_cast<size_t>(row)] =
          windows_[mask] > 0 ? std::max(first[row], own - windows_[mask] + 1) : first[row];
  }
  const DType wide = accumulate_type(options_.compute);
  convert_to(staged_weight_, wide, batch.target_weight.span<double>(),
             batch.emphasis ? std::span<const double>(batch.emphasis.span<double>()) : std::span<const double>());
  const int64_t rows = batch_.tokens.count();
  backend_.upload(batch_.tokens, batch.tokens.reshape({rows}));
  backend_.upload(batch_.position, Tensor::of(staged_position_, {rows}));
  if (loss_) loss_->set_targets(batch.target.reshape({rows}), Tensor(staged_weight_.data(), wide, {rows}));
  if (rotations_.has_query_temperature()) {
    dispatch_floating(batch_.query_factor.dtype(), [&](auto zero) {
      using A = decltype(zero);
      A* factor = reinterpret_cast<A*>(staged_factor_.data());
      for (int64_t at : position) *factor++ = static_cast<A>(rotations_.query_factor(at));
    });
    backend_.upload(batch_.query_factor, Tensor(staged_factor_.data(), batch_.query_factor.dtype(), {rows}));
  }
  if (batch_.row) {
    const auto sequence = batch.sequence.span<int64_t>();
    for (size_t row = 0; row < staged_row_.size(); ++row) {
      const auto at = static_cast<int64_t>(row);
      staged_row_[row] =
          (sequence[static_cast<size_t>(at / local_)] << 32) + layout_.index_of(grid_.cp_rank, at % local_);
    }
    backend_.upload(batch_.row, Tensor::of(staged_row_, {rows}));
  }
  for (size_t mask = 0; mask < windows_.size(); ++mask) {
    const Tensor host(staged_first_[mask].data(), DType::kInt64, batch_.first[mask].shape());
    backend_.upload(batch_.first[mask], host);
    if (!options_.one_token) ring_->set_mask(static_cast<int>(mask), batch_.first[mask], host);
  }
  if (options_.one_token) options_.cache->set_token(index, batch_.first);
}

void Transformer::forward_layers(bool keep) {
  const int64_t layers = static_cast<int64_t>(activations_.layers.size());
  const Tensor input = layers > 0 ? activations_.layers[0].input : activations_.output;
  RowScatter embedded = scattered(input);
  embedding_parallel_forward(backend_, embedded, batch_.tokens, parameters_.embedding.weight, shards_.vocabulary.begin);
  if (config_.embedding_multiplier != 1) backend_.scale(input, rounded(config_.embedding_multiplier));
  // A layer leaves the norm that the next one begins with, the last layer the last norm.
  if (layers > 0)
    norm_input(0);
  else
    norm_before(parameters_.norm, activations_.output_rstd, activations_.output);
  for (int64_t index = 0; index < layers; ++index) {
    count_progress();
    attention_forward(index, /*attend=*/true);
    if (offload_ && keep) offload_->save(index);
    attention_output(index);
    if (!mlp_tiled_) mlp_input(index);
    if (offload_) offload_->make_room(index + 1);
    const Tensor output = index + 1 < layers ? activations_.layers[index + 1].input : activations_.output;
    mlp_tiled_ ? mlp_tiles_forward(index, output) : mlp_output(index, output);
  }
  if (config_.logit_multiplier != 1) backend_.scale(work_.normed, config_.logit_multiplier);
}

void Transformer::forward(const MicroBatch& batch) {
  set_batch(batch);
  forward_layers(/*keep=*/false);
  loss_->run(losses_, {}, {}, work_.normed, parameters_.head().weight, /*accumulate=*/true);
}

void Transformer::encode(const MicroBatch& batch) {
  CHECK(pool_sum_, "this transformer was not built for evaluation");
  set_batch(batch);
  forward_layers(/*keep=*/false);
  encoded_ = gathered(work_.normed, work_.gathered).all();
}

std::vector<double> Transformer::pooled(std::span<const double> weight) {
  CHECK(encoded_ && static_cast<int64_t>(weight.size()) == pool_weight_.count(), "encode() comes before pooled()");
  std::vector<char> staged(pool_weight_.bytes());
  dispatch_floating(pool_weight_.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* to = reinterpret_cast<T*>(staged.data());
    for (size_t row = 0; row < weight.size(); ++row) to[row] = T(static_cast<accumulate_t<T>>(weight[row]));
  });
  backend_.upload(pool_weight_, Tensor(staged.data(), pool_weight_.dtype(), pool_weight_.shape()));
  backend_.matmul(pool_sum_, pool_weight_, encoded_, Transpose::kNo, Transpose::kNo);
  return download_as_double(backend_, pool_sum_);
}

void Transformer::fill_cache(const MicroBatch& prompt) {
  CHECK(options_.cache != nullptr && !options_.one_token, "this transformer was not built for prompts");
  set_batch(prompt);
  forward_layers(/*keep=*/false);
}

Tensor Transformer::next_logits(const MicroBatch& token, int64_t index) {
  CHECK(options_.one_token, "this transformer was not built for one token");
  set_batch(token, index);
  forward_layers(/*keep=*/false);
  const Tensor x = gathered(work_.normed, work_.gathered).all();
  backend_.matmul(logits_, x, parameters_.head().weight, Transpose::kNo, Transpose::kYes);
  if (config_.logit_cap != 0 && !logits_.empty()) backend_.soft_cap(logits_, config_.logit_cap);
  return logits_;
}

void Transformer::forward_backward(const MicroBatch& batch, bool accumulate,
                                   const std::function<void(int64_t)>& layer_done) {
  CHECK(options_.training, "this transformer was built for evaluation only");
  accumulate_ = accumulate;
  rotations_.begin_gradient();
  set_batch(batch);
  forward_layers(/*keep=*/true);
  loss_->run(losses_, work_.branch_gradient, parameters_.head().gradient, work_.normed, parameters_.head().weight,
             accumulate);
  if (config_.logit_multiplier != 1) backend_.scale(work_.branch_gradient, config_.logit_multiplier);
  NormOptions last = norm_options_;
  last.overwrite_weight = !accumulate_;
  backend_.rmsnorm_backward(work_.residual_gradient, parameters_.norm.gradient, work_.branch_gradient,
                            activations_.output, parameters_.norm.weight, activations_.output_rstd,
                            /*accumulate=*/false, last);

  const int64_t layers = static_cast<int64_t>(activations_.layers.size());
  if (layer_done) layer_done(layers);
  for (int64_t index = layers - 1; index >= 0; --index) {
    count_progress();
    if (offload_) offload_->need(index);
    if (options_.recompute != Recompute::kNone) {
      norm_input(index);
      attention_forward(index, /*attend=*/options_.recompute == Recompute::kFull);
      attention_output(index);
      if (!mlp_tiled_) mlp_input(index);
      // The input of a norm after the MLP is kept, except under the full policy.
      if (options_.recompute == Recompute::kFull && spec(index).norm_after())
        mlp_tiled_ ? mlp_tiles_forward(index, {}) : mlp_output(index, {});
    }
    mlp_tiled_ ? mlp_tiles_backward(index) : mlp_backward(index);
    attention_backward(index);
    if (offload_) offload_->fetch(index - 2);
    if (layer_done) layer_done(index);
  }

  rotations_.finish_gradient();
  if (!parameters_.embedding.gradient) return;  // frozen
  if (config_.embedding_multiplier != 1) backend_.scale(work_.residual_gradient, rounded(config_.embedding_multiplier));
  RowGather dembedded = gathered(work_.residual_gradient, work_.partial);
  embedding_parallel_backward(backend_, parameters_.embedding.gradient, batch_.tokens, dembedded,
                              shards_.vocabulary.begin);
}

// A multiplier rounded to the compute type.
double Transformer::rounded(double multiplier) const {
  return dispatch_floating(options_.compute, [&](auto zero) {
    using T = decltype(zero);
    return static_cast<double>(static_cast<accumulate_t<T>>(T(static_cast<accumulate_t<T>>(multiplier))));
  });
}

Tensor Transformer::margins() {
  CHECK(!options_.training, "margins are for evaluation");
  loss_->margins(margins_);
  return margins_;
}

double Transformer::weighted_loss() const {
  const Tensor host(staged_loss_.data(), losses_.dtype(), losses_.shape());
  backend_.download(host, losses_);
  return dispatch_floating(losses_.dtype(), [&](auto type) {
    using A = decltype(type);
    const A* loss = reinterpret_cast<const A*>(staged_loss_.data());
    const A* weight = reinterpret_cast<const A*>(staged_weight_.data());
    double sum = 0;
    for (int64_t i = 0; i < losses_.count(); ++i)
      if (static_cast<double>(weight[i]) != 0) sum += static_cast<double>(weight[i]) * static_cast<double>(loss[i]);
    return sum;
  });
}

}  // namespace carillon
