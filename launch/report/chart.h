// SVG charts and the page around them: self-contained, readable without scripts, in light and dark. All text from files
// or users goes through escaped().
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace carillon {

std::string escaped(std::string_view text);

struct Curve {
  std::string label;
  std::vector<std::pair<double, double>> points;  // x, y; increasing x
  bool dots = true;
  std::vector<double> half_heights;  // half the height of a bar around each point; empty: no bars
};

// A line across the chart.
struct Marker {
  bool vertical = true;
  double at = 0;
  std::string label;
};

struct Axes {
  std::string x, y;  // labels
  bool log_x = false, log_y = false;
  std::vector<double> x_ticks;  // empty: chosen automatically
  std::vector<Marker> markers;
};

// Returns an <svg>, or a sentence if there is nothing to draw. Values that a logarithmic axis cannot show are left out.
std::string line_chart(const Axes& axes, const std::vector<Curve>& curves);

// Returns values in [0, 1] as a table of coloured cells with their numbers; NaN: an empty cell.
std::string heat_map(const std::string& corner, const std::vector<std::string>& columns,
                     const std::vector<std::pair<std::string, std::vector<double>>>& rows);

std::string html_page(const std::string& title, const std::string& body);

// "0.9731", "1.2e+05".
std::string short_number(double value);

}  // namespace carillon
