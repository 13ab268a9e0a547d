#include "launch/session/unused_rope.h"

#include <algorithm>
#include <map>
#include <utility>
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
  const auto sets = [&](const char* key) {
    return given.contains(key) && (given[key].is_boolean() ? given[key].get<bool>() : !given[key].is_null());
  };
  if (model.type == kNone)
    for (const char* key : {"resonance", "cope"})
      if (sets(key)) notice(fmt::format("rope.{} has no effect with rope.type none, in rope, give another type", key));
  if (model.type != kYarn) return;
  for (const auto& [key, other] : {std::pair{"mscale", "mscale_all_dim"}, std::pair{"mscale_all_dim", "mscale"}}) {
    if (!sets(key)) continue;
    if (model.attention_factor)
      notice(fmt::format("rope.{} has no effect beside attention_factor, in rope, keep one of them", key));
    else if (model.mscale == 0 || model.mscale_all_dim == 0)
      notice(fmt::format("rope.{} has no effect without {}, in rope, give both or neither", key, other));
  }
}

}  // namespace carillon
