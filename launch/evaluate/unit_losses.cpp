#include "launch/evaluate/unit_losses.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "runtime/parse_json.h"

namespace carillon {
namespace {

// [loss, weight, tokens]; a loss that is not finite becomes null, because JSON has no such numbers
Json json_of(const LossSum& sum) { return {sum.loss, sum.weight, sum.tokens}; }
LossSum sum_of(const Json& json, size_t first = 0) {
  const Json& loss = json.at(first);
  return {loss.is_null() ? std::numeric_limits<double>::quiet_NaN() : loss.get<double>(),
          json.at(first + 1).get<double>(), json.at(first + 2).get<int64_t>()};
}

// [[bin, loss, weight, tokens], …]
Json json_of(const std::map<int64_t, LossSum>& bins) {
  Json list = Json::array();
  for (const auto& [bin, sum] : bins) list.push_back({bin, sum.loss, sum.weight, sum.tokens});
  return list;
}
std::map<int64_t, LossSum> bins_of(const Json& list, size_t count) {
  std::map<int64_t, LossSum> bins;
  for (const Json& entry : list) {
    const auto bin = entry.at(0).get<int64_t>();
    if (bin < 0 || bin >= static_cast<int64_t>(count))
      throw Json::other_error::create(501, "a bin that is not there", nullptr);
    bins[bin] = sum_of(entry, 1);
  }
  return bins;
}

}  // namespace

void LossUnit::add(const LossUnit& other) {
  all.add(other.all);
  for (const auto& [bin, sum] : other.by_position) by_position[bin].add(sum);
  for (const auto& [bin, sum] : other.past_training) past_training[bin].add(sum);
}

Json UnitLosses::json() const {
  Json units_json = Json::array();
  for (const LossUnit& unit : units)
    units_json.push_back({json_of(unit.all), json_of(unit.by_position), json_of(unit.past_training)});
  return {{"format_version", 1},
          {"tokenizer", tokenizer},
          {"trained_length", trained_length},
          {"position_bins", position_bins},
          {"past_bins", past_bins},
          {"documents", documents},
          {"units", std::move(units_json)}};
}

UnitLosses UnitLosses::parse(const Json& json) {
  UnitLosses losses;
  losses.tokenizer = json.at("tokenizer").get<std::string>();
  losses.trained_length = json.at("trained_length").get<int64_t>();
  losses.position_bins = json.at("position_bins").get<Bins>();
  losses.past_bins = json.at("past_bins").get<Bins>();
  losses.documents = json.at("documents").get<std::vector<std::string>>();
  for (const Json& unit : json.at("units"))
    losses.units.push_back({sum_of(unit.at(0)), bins_of(unit.at(1), losses.position_bins.size()),
                            bins_of(unit.at(2), losses.past_bins.size())});
  if (losses.documents.size() != 1 && losses.documents.size() != losses.units.size())
    throw Json::other_error::create(501, "documents and units differ in number", nullptr);
  return losses;
}

std::string unit_losses_path(const std::string& sweep, const std::string& point) {
  return sweep + "/losses/" + point + ".json";
}

UnitLosses read_unit_losses(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ExitCode::kMissingInput, "the losses by document are not there, {}, evaluate the point again", path);
  std::stringstream text;
  text << file.rdbuf();
  try {
    return UnitLosses::parse(parse_json(text.str(), path));
  } catch (const Json::exception& error) {
    fail(ExitCode::kBadInput, "holds no losses by document ({}), {}, remove it and its point's line of evals.jsonl",
         error.what(), path);
  }
}

}  // namespace carillon
