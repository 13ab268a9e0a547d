#include "launch/evaluate/comparison.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "runtime/error.h"

namespace carillon {
namespace {

constexpr int64_t kLeastTokens = 1024;  // of a block, if that leaves kFewest blocks
constexpr size_t kFewest = 8;

struct Term {
  double difference = 0, weight = 0;
  int64_t tokens = 0;
};

Difference ratio(const std::vector<Term>& terms) {
  Difference result;
  double sum = 0, weight = 0;
  for (const Term& term : terms) {
    sum += term.difference;
    weight += term.weight;
    result.tokens += term.tokens;
  }
  result.units = static_cast<int64_t>(terms.size());
  result.mean = sum / weight;
  if (terms.size() < 2) return result;
  double squares = 0;
  for (const Term& term : terms) squares += std::pow(term.difference - result.mean * term.weight, 2);
  const auto n = static_cast<double>(terms.size());
  result.standard_error = std::sqrt(n / (n - 1) * squares) / weight;
  return result;
}

// Returns the position in `others` of each of `documents`, with equal ones in order; empty if the lists differ.
std::vector<size_t> matched(const std::vector<std::string>& documents, const std::vector<std::string>& others) {
  if (documents.size() != others.size()) return {};
  std::multimap<std::string, size_t> places;
  for (size_t i = 0; i < others.size(); ++i) places.emplace(others[i], i);
  std::vector<size_t> result;
  for (const std::string& document : documents) {
    const auto found = places.find(document);  // the first inserted of equal keys
    if (found == places.end()) return {};
    result.push_back(found->second);
    places.erase(found);
  }
  return result;
}

// Equal ids from different tokenizers are different tokens. Without a tokenizer the data consisted of ids.
bool tokenizers_differ(const UnitLosses& one, const UnitLosses& other) {
  return !one.tokenizer.empty() && !other.tokenizer.empty() && one.tokenizer != other.tokenizer;
}

// One unit of one pair.
struct UnitPair {
  const LossUnit *setting, *baseline;
};
using Units = std::vector<std::vector<UnitPair>>;  // [unit][pair]

using SumOf = std::function<const LossSum*(const LossUnit&)>;  // null: the unit has no such tokens

// Returns D and W of one unit; nothing if it has none of these tokens.
std::optional<Term> term_of(const std::vector<UnitPair>& pairs, const SumOf& sum_of) {
  Term term;
  for (const UnitPair& pair : pairs) {
    const LossSum *setting = sum_of(*pair.setting), *baseline = sum_of(*pair.baseline);
    if (setting == nullptr || baseline == nullptr) return std::nullopt;
    term.difference += (setting->loss - baseline->loss) / static_cast<double>(pairs.size());
    term.weight = setting->weight;
    term.tokens = setting->tokens;
  }
  return term.weight > 0 ? std::optional(term) : std::nullopt;
}

// Joins `size` neighbours to one term each; the last also has the remainder.
std::vector<Term> joined(const std::vector<Term>& terms, size_t size) {
  const size_t blocks = std::max<size_t>(1, terms.size() / size);
  std::vector<Term> result(blocks);
  for (size_t i = 0; i < terms.size(); ++i) {
    Term& block = result[std::min(i / size, blocks - 1)];
    block.difference += terms[i].difference;
    block.weight += terms[i].weight;
    block.tokens += terms[i].tokens;
  }
  return result;
}

bool neighbours_correlate(const std::vector<Term>& terms) {
  const double mean = ratio(terms).mean;
  double products = 0, squares = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const double here = terms[i].difference - mean * terms[i].weight;
    squares += here * here;
    if (i > 0) products += here * (terms[i - 1].difference - mean * terms[i - 1].weight);
  }
  return squares > 0 && std::abs(products / squares) > 2 / std::sqrt(static_cast<double>(terms.size()));
}

// Returns the number of pieces per block of a single document.
size_t block_size(const std::vector<Term>& pieces) {
  size_t size = kLeastTokens / UnitLosses::kPieceTokens;
  while (size > 1 && pieces.size() / size < kFewest) size /= 2;
  while (pieces.size() / (2 * size) >= kFewest && neighbours_correlate(joined(pieces, size))) size *= 2;
  return size;
}

std::vector<BinDifference> by_bin(const Units& units, const UnitLosses::Bins& bins,
                                  std::map<int64_t, LossSum> LossUnit::*member, size_t block) {
  std::vector<BinDifference> result;
  for (size_t bin = 0; bin < bins.size(); ++bin) {
    std::vector<Term> terms;
    for (const auto& unit : units) {
      const auto term = term_of(unit, [&](const LossUnit& of) -> const LossSum* {
        const auto found = (of.*member).find(static_cast<int64_t>(bin));
        return found == (of.*member).end() ? nullptr : &found->second;
      });
      if (term) terms.push_back(*term);
    }
    if (!terms.empty())
      result.push_back({bins[bin].first, bins[bin].second, ratio(block > 1 ? joined(terms, block) : terms)});
  }
  return result;
}

}  // namespace

Comparison compare_losses(const std::vector<LossPair>& pairs) {
  Comparison result;
  const UnitLosses& first = *pairs.front().first;
  Units units(first.units.size());
  bool one_length = true;
  for (const auto& [setting, baseline] : pairs) {
    for (const UnitLosses* one : {setting, baseline}) {
      if (tokenizers_differ(*one, first)) {
        result.refusal = "they scored other tokens: the tokenizers differ";
        return result;
      }
      if (matched(first.documents, one->documents).empty() || one->units.size() != first.units.size()) {
        result.refusal = "they scored other tokens";
        return result;
      }
    }
    const std::vector<size_t> ours = matched(first.documents, setting->documents),
                              theirs = matched(first.documents, baseline->documents);
    const bool by_document = first.documents.size() > 1;
    for (size_t i = 0; i < units.size(); ++i)
      units[i].push_back({&setting->units[by_document ? ours[i] : i], &baseline->units[by_document ? theirs[i] : i]});
    one_length = one_length && setting->trained_length == baseline->trained_length &&
                 setting->trained_length == first.trained_length;
  }
  std::vector<Term> terms;
  for (const auto& unit : units)
    if (const auto term = term_of(unit, [](const LossUnit& of) { return &of.all; })) terms.push_back(*term);
  if (terms.empty()) {
    result.refusal = "no token was scored";
    return result;
  }
  if (!std::isfinite(ratio(terms).mean)) {
    result.refusal = "a loss is not finite";
    return result;
  }
  const size_t block = first.documents.size() > 1 ? 1 : block_size(terms);
  result.unit = first.documents.size() > 1
                    ? "documents"
                    : fmt::format("blocks of {} tokens", static_cast<int64_t>(block) * UnitLosses::kPieceTokens);
  result.all = ratio(joined(terms, block));
  result.by_position = by_bin(units, first.position_bins, &LossUnit::by_position, block);
  if (one_length) result.past_training = by_bin(units, first.past_bins, &LossUnit::past_training, block);
  return result;
}

Difference over_values(const std::vector<double>& values) {
  std::vector<Term> terms;
  for (const double value : values) terms.push_back({value, 1, 0});
  return ratio(terms);
}

}  // namespace carillon
