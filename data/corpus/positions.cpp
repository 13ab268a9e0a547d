#include "data/corpus/positions.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "runtime/check.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

// The random numbers of one document, selected by its sequence and its place in it. A document of at most 2^32 tokens
// uses at most two numbers per token.
class Numbers {
 public:
  explicit Numbers(const PositionDraw& draw)
      : seed_(draw.seed),
        stream_(stream_of("data.positions") + static_cast<uint64_t>(draw.sequence)),
        next_(static_cast<uint64_t>(draw.document) << 34) {}
  // Uniform in [0, last].
  int64_t up_to(int64_t last) {
    return static_cast<int64_t>(random_below(static_cast<uint64_t>(last) + 1, seed_, stream_, next_++));
  }
  bool with_probability(double probability) { return random_uniform(seed_, stream_, next_++) < probability; }

 private:
  uint64_t seed_, stream_, next_;
};

// Whether token i ≥ 2 begins a block, i.e. exactly one of it and its predecessor is trained.
bool begins_block(std::span<const double> weights, size_t i) { return (weights[i] != 0) != (weights[i - 1] != 0); }

void spread(std::span<int64_t> position, const PositionSettings& settings, Numbers& numbers) {
  const auto tokens = static_cast<int64_t>(position.size());
  const int64_t reach = std::max(tokens, std::min(tokens, settings.trained) * settings.stretch);
  CHECK(reach <= settings.length, "positions stay below the length", reach, settings.length);
  // Floyd's sampling: for each of the last `chosen` places, take a random place up to it, or the place itself if that
  // one is taken already.
  const int64_t places = reach - 2, chosen = tokens - 2;
  std::unordered_set<int64_t> taken;
  for (int64_t last = places - chosen; last < places; ++last)
    if (const int64_t place = numbers.up_to(last); !taken.insert(place).second) taken.insert(last);
  size_t next = 1;
  for (const int64_t place : taken) position[next++] = place + 1;
  std::sort(position.begin() + 1, position.end() - 1);
  position.back() = reach - 1;
}

}  // namespace

void positions_with_one_skip(std::span<int64_t> position, int64_t chunk, int64_t skip) {
  std::iota(position.begin(), position.end(), 0);
  for (size_t i = static_cast<size_t>(chunk); i < position.size(); ++i) position[i] += skip;
}

void draw_positions(std::span<int64_t> position, std::span<const double> weights, const PositionSettings& settings,
                    const PositionDraw& draw) {
  const auto tokens = static_cast<int64_t>(position.size());
  std::iota(position.begin(), position.end(), 0);
  if (settings.kind == PositionKind::kConsecutive || tokens < 2) return;
  if (settings.kind == PositionKind::kRandom) {
    Numbers numbers(draw);
    return spread(position, settings, numbers);
  }
  CHECK(settings.length >= tokens, "positions reach as far as a document is long", settings.length, tokens);
  Numbers numbers(draw);
  int64_t room = settings.length - tokens;
  if (settings.kind == PositionKind::kPose) {
    const int64_t chunk = 1 + numbers.up_to((tokens + 1) / 2 - 1);
    positions_with_one_skip(position, chunk, numbers.up_to(room));
    return;
  }
  if (weights.empty()) return;
  int64_t moved = 0;
  for (size_t i = 1; i < position.size(); ++i) {
    // The first token is never a target, so the second always belongs to the first one's block.
    if (i > 1 && begins_block(weights, i) && numbers.with_probability(settings.skip_probability)) {
      const int64_t skip = numbers.up_to(room);
      moved += skip;
      room -= skip;
    }
    position[i] += moved;
  }
}

}  // namespace carillon
