#include "launch/report/rope_chart.h"

#include <fmt/format.h>

#include "launch/report/chart.h"

namespace carillon {

std::string rope_wavelength_chart(const std::vector<std::pair<std::string, RopeReport>>& settings) {
  Axes axes{"pair", "wavelength, tokens", false, true, {}, {}};
  std::vector<Curve> curves;
  for (const auto& [name, report] : settings) {
    curves.push_back({name, {}, true});
    for (const RopePairReport& pair : report.pairs)
      curves.back().points.emplace_back(static_cast<double>(pair.pair), pair.wavelength);
    axes.markers.push_back(
        {true, static_cast<double>(report.critical_dimension), curves.size() == 1 ? "critical dimension" : ""});
  }
  if (!settings.empty()) {
    const RopeReport& report = settings.front().second;
    axes.markers.push_back(
        {false, static_cast<double>(report.original_length), fmt::format("trained at {}", report.original_length)});
    if (report.length > report.original_length)
      axes.markers.push_back({false, static_cast<double>(report.length), fmt::format("used at {}", report.length)});
  }
  return line_chart(axes, curves);
}

std::string rope_gap_chart(const std::vector<std::pair<std::string, RopeReport>>& settings) {
  std::vector<Curve> curves;
  for (const auto& [name, report] : settings) {
    curves.push_back({name, {}, true});
    for (const RopePairReport& pair : report.pairs)
      curves.back().points.emplace_back(static_cast<double>(pair.pair), pair.feature_gap);
  }
  return line_chart({"pair", "feature gap", false, false, {}, {}}, curves);
}

}  // namespace carillon
