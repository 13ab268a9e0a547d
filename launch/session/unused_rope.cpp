#include "launch/session/unused_rope.h"

#include <algorithm>
#include <map>
#include <vector>

namespace carillon {
namespace {

using enum RopeType;

const std::map<std::string, std::vector<RopeType>>& users_of_keys() {
  static const std::map<std::string, std::vector<RopeType>> table{
      {"factor",
       {kLinear, kNtk, kDynamic, kNtkByParts, kYarn, kLlama3, kLongRope, kProportional, kDistributional, kClex}},
      {"beta_fast", {kNtkByParts, kYarn}},
      {"beta_slow", {kNtkByParts, kYarn}},
      {"truncate", {kYarn}},
      {"mscale", {kYarn}},
      {"mscale_all_dim", {kYarn}},
      {"low_freq_factor", {kLlama3}},
      {"high_freq_factor", {kLlama3}},
      {"short_factor", {kLongRope}},
      {"long_factor", {kLongRope}},
      {"mixed_windows", {kLongRope}},
      {"disturbance_threshold", {kDistributional}},
      {"param_factor", {kClex}},
      {"time_step", {kClex}},
      {"activation", {kClex}},
      {"alpha", {kDynamic}},
  };
  return table;
}

}  // namespace

void note_unused_rope(const Json& given, const RopeConfig& model, const Notice& notice) {
  for (const auto& [key, users] : users_of_keys()) {
    if (!given.contains(key) || given[key].is_null() || std::ranges::find(users, model.type) != users.end()) continue;
    std::string types;
    for (const RopeType type : users) types += (types.empty() ? "" : ", ") + name_of(type);
    notice(fmt::format("rope.{} has no effect with rope.type {}, in rope, give a type that uses it ({})", key,
                       name_of(model.type), types));
  }
}

}  // namespace carillon
