#include "launch/machine/machine_profile.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// Squared distance of two sizes as ratios: twice as long is as far away as half as long.
double distance(int64_t measured, int64_t wanted) {
  const double ratio = std::log(static_cast<double>(measured) / static_cast<double>(std::max<int64_t>(wanted, 1)));
  return ratio * ratio;
}

// Returns the nearest entry; the first of equals, so that a file always gives the same answer.
template <class Entry, class Distance>
const Entry* nearest_entry(const std::map<DType, std::vector<Entry>>& by_type, DType dtype, Distance distance_of) {
  const auto found = by_type.find(dtype);
  if (found == by_type.end()) return nullptr;
  const Entry* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const Entry& entry : found->second) {
    if (const double d = distance_of(entry); d < least) {
      least = d;
      best = &entry;
    }
  }
  return best;
}

MachineProfile read_profile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error) || std::filesystem::is_directory(path, error))
    fail(ExitCode::kMissingInput, "there is no machine profile, {}, measure this machine with carillon bench",
         printable(path));
  constexpr int64_t kMostBytes = 64 << 20;
  return parse_machine_profile(read_whole_file(path, kMostBytes), path);
}

}  // namespace

double MachineProfile::product_rate(DType dtype, int64_t rows, int64_t inner, int64_t columns) const {
  const ProductRate* entry = nearest_entry(products, dtype, [&](const ProductRate& p) {
    return distance(p.rows, rows) + distance(p.inner, inner) + distance(p.columns, columns);
  });
  return entry == nullptr ? 0 : entry->flops_per_second;
}

bool MachineProfile::has_attention_of(DType dtype, const std::string& engine) const {
  const auto found = attention.find(dtype);
  return found != attention.end() && std::any_of(found->second.begin(), found->second.end(), [&](const auto& rate) {
           return rate.engine.empty() || rate.engine == engine;
         });
}

bool MachineProfile::runs_engine(DType dtype, const std::string& engine) const {
  const auto found = attention.find(dtype);
  return found != attention.end() && std::any_of(found->second.begin(), found->second.end(),
                                                 [&](const auto& rate) { return rate.engine == engine; });
}

double MachineProfile::attention_rate(DType dtype, int64_t head_dim, int64_t length, bool backward,
                                      const std::string& engine) const {
  const bool any = engine.empty() || !has_attention_of(dtype, engine);
  const AttentionRate* entry = nearest_entry(attention, dtype, [&](const AttentionRate& a) {
    if (!any && !a.engine.empty() && a.engine != engine) return std::numeric_limits<double>::infinity();
    return distance(a.head_dim, head_dim) + distance(a.length, length);
  });
  if (entry == nullptr) return 0;
  return backward ? entry->backward_flops_per_second : entry->forward_flops_per_second;
}

void write_machine_profile(const MachineProfile& profile, const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);  // OutputFile reports errors
  write_whole_file(path, machine_profile_json(profile));
}

MachineProfile load_machine_profile(const std::string& name_or_path) {
  if (name_or_path == "this") return read_profile(default_profile_path());
  std::error_code error;
  if (std::filesystem::is_regular_file(name_or_path, error)) return read_profile(name_or_path);
  const std::vector<std::string> names = built_in_profiles();
  if (std::find(names.begin(), names.end(), name_or_path) != names.end()) return built_in_profile(name_or_path);
  // Treats what looks like a path as one.
  if (name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".json")) return read_profile(name_or_path);
  fail(ExitCode::kUsage,
       "there is no machine profile called \"{}\", among those built in, use one of this, {}, or a file",
       printable(name_or_path), join(names));
}

std::string default_profile_path() {
  if (const char* path = std::getenv("CARILLON_PROFILE"); path != nullptr && *path != '\0') return path;
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "." : home) + "/.config/carillon/profile.json";
}

}  // namespace carillon
