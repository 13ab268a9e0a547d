// Charts of the rotation table: each pair's wavelength, the trained length, the critical dimension and the feature
// gaps.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "model/rope_report.h"

namespace carillon {

// One curve per named setting; the critical dimension of each and the trained length are marked.
std::string rope_wavelength_chart(const std::vector<std::pair<std::string, RopeReport>>& settings);
// Feature gap by pair.
std::string rope_gap_chart(const std::vector<std::pair<std::string, RopeReport>>& settings);

}  // namespace carillon
