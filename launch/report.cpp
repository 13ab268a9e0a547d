// report.html of a sweep: no script, no other file, readable in the dark.
#include <algorithm>
#include <cmath>
#include <set>

#include "launch/sweep_results.h"
#include "launch/text.h"

namespace carillon {
namespace {

// Names come from files and users.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : printable(text)) switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  return result;
}

constexpr const char* kStyle = R"(<style>
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ccc}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#161616;--line:#444}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}td,th{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:right;
white-space:nowrap}td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}svg{width:100%;height:auto;max-width:46rem}
text{fill:var(--ink);font:12px system-ui,sans-serif}.axis{stroke:var(--line)}</style>)";

constexpr const char* kColours[] = {"#3b7dd8", "#d8743b", "#3ba55d", "#a05ad6",
                                    "#c94f7c", "#8a8a2a", "#2aa5a5", "#777777"};

struct Curve {
  std::string label;
  std::vector<std::pair<double, double>> points;  // length, value
};

std::string number(double value) { return fmt::format("{:.4g}", value); }

// The nearest 1, 2 or 5 times a power of ten, not below `step`.
double round_step(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= step) return factor * power;
  return 10 * power;
}

// Length on a logarithmic axis, value on a plain one.
std::string chart(const std::vector<Curve>& curves, const std::string& metric, const std::vector<int64_t>& lengths) {
  constexpr double kWidth = 640, kHeight = 300, kLeft = 60, kRight = 20, kTop = 20, kBottom = 40;
  double low = INFINITY, high = -INFINITY;
  for (const Curve& curve : curves)
    for (const auto& [x, y] : curve.points) low = std::min(low, y), high = std::max(high, y);
  if (!(low <= high)) return "<p>No point is done yet.</p>\n";
  if (high - low < 1e-9) low -= 0.5, high += 0.5;
  // Round ends and ticks.
  const double step = round_step((high - low) / 4);
  low = std::floor(low / step + 1e-9) * step;
  high = std::ceil(high / step - 1e-9) * step;
  const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
  const double first = std::log2(static_cast<double>(*shortest)), last = std::log2(static_cast<double>(*longest));
  const auto x_of = [&](double length) {
    return kLeft + (last > first ? (std::log2(length) - first) / (last - first) : 0.5) * (kWidth - kLeft - kRight);
  };
  const auto y_of = [&](double value) { return kTop + (high - value) / (high - low) * (kHeight - kTop - kBottom); };
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{} by length\">\n", kWidth,
                                kHeight + 18 * static_cast<double>(curves.size()), escaped(metric));
  for (int i = 0; low + i * step <= high + step / 2; ++i) {
    const double value = low + i * step;
    svg += fmt::format(
        "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text x=\"{}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - kRight, y_of(value), y_of(value), kLeft - 6, y_of(value) + 4, number(value));
  }
  for (const int64_t length : std::set<int64_t>(lengths.begin(), lengths.end()))
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       x_of(static_cast<double>(length)), kHeight - kBottom + 20, length);
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">tokens</text>\n", kWidth - kRight, kHeight - 6);
  for (size_t i = 0; i < curves.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    std::string path;
    for (const auto& [x, y] : curves[i].points)
      path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x_of(x), y_of(y));
    svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>\n", colour, path);
    for (const auto& [x, y] : curves[i].points)
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>", x_of(x), y_of(y), colour);
    const double y = kHeight + 18 * static_cast<double>(i);
    svg += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{}</text>\n", kLeft,
        y - 6, colour, kLeft + 22, y, escaped(curves[i].label));
  }
  return svg + "</svg>\n";
}

}  // namespace

std::string report_html(const SweepConfig& config, const std::vector<SweepPoint>& points,
                        const std::map<std::string, Json>& records) {
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>Carillon sweep</title>" +
      std::string(kStyle) + "</head><body>\n<h1>Sweep</h1>\n";
  int64_t done = 0, failed = 0;
  for (const SweepPoint& point : points) {
    const auto record = records.find(point.id);
    if (record == records.end()) continue;
    (record->second["status"] == "ok" ? done : failed) += 1;
  }
  html += fmt::format("<p>{} points, {} done, {} failed.</p>\n", points.size(), done, failed);
  for (const Json& task : config.tasks) {
    const std::string metric = main_metric(task);
    html += fmt::format("<h2>{}: {}</h2>\n", escaped(task["name"].get<std::string>()), escaped(metric));
    std::vector<Curve> curves;
    std::string rows;
    for (const SweepPoint& point : points) {
      if (point.task != task) continue;
      const std::string model = point.model + (point.step ? ", step " + std::to_string(*point.step) : "");
      const std::string label = model + ", " + point.rope_name;
      if (curves.empty() || curves.back().label != label) {
        curves.push_back({label, {}});
        rows += fmt::format("{}<tr><td>{}</td><td>{}</td>", rows.empty() ? "" : "</tr>\n", escaped(model),
                            escaped(point.rope_name));
      }
      const auto record = records.find(point.id);
      std::string cell = "&ndash;";
      if (record != records.end() && record->second["status"] == "failed")
        cell = "failed: " + escaped(record->second.value("error", ""));
      else if (record != records.end() && record->second["metrics"][metric].is_number()) {
        const double value = record->second["metrics"][metric].get<double>();
        curves.back().points.emplace_back(static_cast<double>(point.length), value);
        cell = number(value);
      }
      rows += "<td>" + cell + "</td>";
    }
    for (Curve& curve : curves) std::sort(curve.points.begin(), curve.points.end());
    html += chart(curves, metric, config.lengths) + "<table><tr><th>model</th><th>rope</th>";
    for (const int64_t length : config.lengths) html += fmt::format("<th>{}</th>", length);
    html += "</tr>\n" + rows + "</tr></table>\n";
  }
  return html + "</body></html>\n";
}

}  // namespace carillon
