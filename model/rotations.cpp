#include "model/rotations.h"

#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "model/clex.h"

namespace carillon {
namespace {

// The maximum length of a document that uses the first half of a table; nothing without mixed windows.
std::optional<int64_t> mixed_length(const ModelRope& rope) {
  std::optional<int64_t> length;
  for (const RopeConfig* one : {&rope.rope, rope.sliding_rope ? &*rope.sliding_rope : nullptr}) {
    if (one == nullptr || !one->mixed_windows) continue;
    if (length && *length != one->original_max_position_embeddings)
      fail(
          ExitCode::kUsage,
          "mixed windows change lists at {} tokens and, in windowed layers, at {}, in rope.sliding_attention, give one "
          "original_max_position_embeddings",
          *length, one->original_max_position_embeddings);
    length = one->original_max_position_embeddings;
  }
  return length;
}

}  // namespace

Rotations::Rotations(Backend& backend, const ModelConfig& config, Parameters& parameters, const Options& options,
                     Arena& arena)
    : backend_(backend),
      parameters_(parameters),
      options_(options),
      head_dim_(config.head_dim),
      mixed_tables_(!options.generation && mixed_length(config)) {
  if (options.training && config.sliding_rope && config.sliding_rope->type == RopeType::kClex)
    fail(ExitCode::kUsage,
         "rope type clex is learned for layers with full attention only, in rope.sliding_attention, use another type");
  const DType wide = accumulate_type(options.compute);
  const auto table = [&](const RopeConfig& rope) {
    const int64_t pairs = rotary_pairs(rope, head_dim_), rows = (mixed_tables_ ? 2 : 1) * options.positions;
    return RotationTable{arena.allocate("rotation.cosine", wide, {rows, pairs}),
                         arena.allocate("rotation.sine", wide, {rows, pairs})};
  };
  tables_[0] = table(config.rope);
  // An evaluation may give windowed layers a separate rotation.
  const bool windowed = config.any([](const LayerSpec& layer) { return layer.attention.window > 0; });
  if (config.sliding_rope || (windowed && !options.training))
    tables_[1] = table(config.sliding_rope ? *config.sliding_rope : config.rope);
  if (options.training && parameters.ode_up && !parameters.ode_up.frozen) {
    if (mixed_tables_)
      fail(ExitCode::kUsage,
           "rope type clex is not learned beside mixed windows, in rope.sliding_attention, leave mixed_windows out");
    rates_ = arena.allocate("rotation.gradient", DType::kFloat64, {config.rotary_pairs()});
    weight_gradient_ = arena.allocate("rotation.gradient", wide, {2, parameters.ode_up.rectangle.count()});
  }
}

void Rotations::set(const ModelRope& rope, int64_t length) {
  if (rope.sliding_rope && !tables_[1].cosine)
    fail(ExitCode::kUsage,
         "windowed layers have no rotation of their own in this model, in rope.sliding_attention, give it when the run "
         "begins");
  mixed_ = mixed_tables_ && mixed_length(rope);
  mixed_length_ = mixed_ ? *mixed_length(rope) : 0;
  fill(0, rope.rope, length);
  if (tables_[1].cosine) fill(1, rope.sliding_rope ? *rope.sliding_rope : rope.rope, length);
  temperature_beta_ = rope.rope.llama_4_scaling_beta;
  temperature_length_ = static_cast<double>(rope.rope.original_max_position_embeddings);
}

double Rotations::query_factor(int64_t position) const {
  return 1 + temperature_beta_ * std::log1p(std::floor(static_cast<double>(position) / temperature_length_));
}

// Returns `rope` with the learned weights that the parameters hold for it.
RopeConfig Rotations::with_learned_weights(const RopeConfig& rope) const {
  RopeConfig result = rope;
  if (rope.type != RopeType::kClex) return result;
  if (!parameters_.ode_up)
    fail(ExitCode::kUsage,
         "rope type clex is learned with a model, and nothing was learned with this one, in rope, train with it first, "
         "or use ntk");
  ClexWeights weights;
  weights.pairs = parameters_.ode_up.weight.size(0), weights.hidden = parameters_.ode_up.weight.size(1);
  if (weights.hidden != clex_hidden(rope, weights.pairs))
    fail(ExitCode::kUsage, "rope.param_factor is {}, in rope, the model was trained with {}", rope.param_factor,
         weights.hidden / (2 * weights.pairs));
  weights.up = download_as_double(backend_, parameters_.ode_up.weight);
  weights.down = download_as_double(backend_, parameters_.ode_down.weight);
  result.dynamics = std::make_shared<const ClexWeights>(std::move(weights));
  return result;
}

void Rotations::fill(size_t which, const RopeConfig& given, int64_t length) {
  const RopeConfig rope = with_learned_weights(given);
  const auto& [cosine, sine] = tables_[which];
  const int64_t rows = options_.positions, pairs = cosine.size(1);
  CHECK(pairs == rotary_pairs(rope, head_dim_), "a table is of as many pairs as it was made for");
  std::vector<int64_t> positions(static_cast<size_t>(rows));
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<char> cosines(cosine.bytes()), sines(sine.bytes());
  const Tensor host_cosine(cosines.data(), cosine.dtype(), cosine.shape());
  const Tensor host_sine(sines.data(), sine.dtype(), sine.shape());
  for (int64_t begin = 0; begin < cosine.size(0); begin += rows) {
    const int64_t document = rope.mixed_windows && mixed_ ? mixed_length_ + (begin > 0 ? 1 : 0) : length;
    const RopeTable table = make_rope_table(rope, head_dim_, document);
    fill_rotation(table, positions, host_cosine.rows(begin, begin + rows), host_sine.rows(begin, begin + rows));
    if (which == 0 && rates_) learned_frequencies_ = table.inverse_frequency;
  }
  if (which == 0 && rates_) {
    learned_ = rope;
    learned_stretch_ = clex_stretch(rope, rope.length.value_or(length));
  }
  backend_.upload(cosine, host_cosine);
  backend_.upload(sine, host_sine);
}

void Rotations::begin_gradient() {
  if (rates_) backend_.fill(rates_, 0);
}

// By way of the logarithms of the frequencies.
void Rotations::finish_gradient() {
  if (!rates_) return;
  const std::vector<double> rates = download_as_double(backend_, rates_);
  std::vector<char> staged(weight_gradient_.bytes());
  const Tensor host(staged.data(), weight_gradient_.dtype(), weight_gradient_.shape());
  // Absent if operations are only counted and no rotation was set.
  if (learned_.dynamics) {
    std::vector<double> logarithms;
    for (size_t i = 0; i < rates.size(); ++i) logarithms.push_back(rates[i] * learned_frequencies_[i]);
    const ClexWeights gradient =
        clex_gradient(learned_, static_cast<int64_t>(rates.size()), learned_stretch_, logarithms);
    dispatch_floating(host.dtype(), [&](auto zero) {
      using A = decltype(zero);
      A* to = reinterpret_cast<A*>(staged.data());
      for (const std::vector<double>* part : {&gradient.up, &gradient.down})
        for (double value : *part) *to++ = static_cast<A>(value);
    });
  }
  backend_.upload(weight_gradient_, host);
  for (int64_t which = 0; which < 2; ++which) {
    Parameter& parameter = which == 0 ? parameters_.ode_up : parameters_.ode_down;
    backend_.add(parameter.gradient.reshape({-1}), weight_gradient_.rows(which, which + 1).reshape({-1}));
  }
}

}  // namespace carillon
