#include "data/corpus/mixture.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <numeric>

#include "runtime/check.h"
#include "runtime/error.h"

namespace carillon {
namespace {

using Wide = __int128;  // for products of two counts of up to 18 digits

constexpr int64_t kMark = int64_t{1} << 16;
constexpr int64_t kMostUnits = 999'999'999'999'999'999;

// A weight as the user wrote it: digits · 10^exponent, taken from the shortest text that reads back as the same double.
struct Decimal {
  int64_t digits = 0;
  int exponent = 0;
};

Decimal decimal_of(double weight) {
  char shortest[64];
  const char* const end =
      std::to_chars(shortest, shortest + sizeof shortest, weight, std::chars_format::scientific).ptr;  // "2.5e-01"
  const std::string text(static_cast<const char*>(shortest), end);
  Decimal decimal;
  const size_t e = text.find('e');
  decimal.exponent = std::atoi(text.c_str() + e + 1);
  for (size_t i = 0; i < e; ++i) {
    if (text[i] == '.') continue;
    decimal.digits = 10 * decimal.digits + (text[i] - '0');
    if (i > 1) --decimal.exponent;
  }
  while (decimal.digits % 10 == 0) decimal.digits /= 10, ++decimal.exponent;
  return decimal;
}

// Scales the weights to the smallest whole numbers.
std::vector<int64_t> whole_shares(const std::vector<double>& weights, const std::string& where) {
  std::vector<Decimal> decimals;
  int finest = INT32_MAX;
  for (const double weight : weights) {
    decimals.push_back(decimal_of(weight));
    finest = std::min(finest, decimals.back().exponent);
  }
  std::vector<int64_t> shares;
  Wide sum = 0;
  for (const Decimal& decimal : decimals) {
    Wide units = decimal.digits;
    for (int i = finest; i < decimal.exponent && units <= kMostUnits; ++i) units *= 10;
    sum += std::min<Wide>(units, kMostUnits + 1);
    shares.push_back(static_cast<int64_t>(std::min<Wide>(units, kMostUnits)));
  }
  if (sum > kMostUnits)
    fail(ExitCode::kUsage,
         "the weights have more than 18 digits between the first of the largest and the last of the finest, {}, round "
         "them",
         where);
  int64_t divisor = 0;
  for (const int64_t share : shares) divisor = std::gcd(divisor, share);
  for (int64_t& share : shares) share /= divisor;
  return shares;
}

}  // namespace

Mixture::Mixture(const std::vector<double>& weights, const std::string& where)
    : shares_(whole_shares(weights, where)), period_(std::accumulate(shares_.begin(), shares_.end(), int64_t{0})) {
  CHECK(!weights.empty() && *std::min_element(shares_.begin(), shares_.end()) > 0, "weights are above 0", where);
  const size_t sources = shares_.size();
  state_ = {0, std::vector<int64_t>(sources), std::vector<int64_t>(sources), std::vector<int64_t>(sources)};
  for (size_t i = 0; i < sources; ++i) prepare(state_, i);
  marks_.push_back(state_);
}

void Mixture::prepare(State& state, size_t source) const {
  const Wide count = state.counts[source], share = shares_[source];
  state.release[source] = static_cast<int64_t>(count * period_ / share);
  state.deadline[source] = static_cast<int64_t>(((count + 1) * period_ + share - 1) / share);
}

size_t Mixture::next_source(const State& state) const {
  size_t next = shares_.size();
  for (size_t i = 0; i < shares_.size(); ++i)
    if (state.release[i] <= state.number && (next == shares_.size() || state.deadline[i] < state.deadline[next]))
      next = i;
  CHECK(next < shares_.size(), "some source may always be drawn", state.number);
  return next;
}

void Mixture::advance(State& state) {
  const size_t source = next_source(state);
  CHECK(state.deadline[source] > state.number, "no draw comes too late", state.number, source);
  ++state.counts[source];
  ++state.number;
  prepare(state, source);
  if (state.number == static_cast<int64_t>(marks_.size()) * kMark) marks_.push_back(state);
}

Mixture::Draw Mixture::at(int64_t number) {
  const int64_t whole = number / period_, place = number % period_;
  const int64_t mark = std::min(place / kMark, static_cast<int64_t>(marks_.size()) - 1);
  // Continues from the current state unless that is past `place` or a mark is nearer.
  if (state_.number > place || state_.number < mark * kMark) state_ = marks_[static_cast<size_t>(mark)];
  while (state_.number < place) advance(state_);
  const size_t source = next_source(state_);
  return {source, whole * shares_[source] + state_.counts[source]};
}

}  // namespace carillon
