#include "launch/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace carillon {
namespace {

constexpr const char* kStyle = R"(<style>
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ccc}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#161616;--line:#444}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto;margin:.5rem 0}td,th{border-bottom:1px solid var(--line);padding:.25rem .6rem;
text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}table.heat td{color:#111;border:1px solid var(--paper)}
table.heat td:first-child,table.heat td.none{color:var(--ink)}svg{width:100%;height:auto;max-width:46rem}pre{overflow-x:auto}
h3{margin-bottom:.2rem}</style>)";

// A chart saved separately cannot take its style from the page.
constexpr const char* kSvgStyle =
    "<style>text{fill:var(--ink,#222);font:12px system-ui,sans-serif}.axis{stroke:var(--line,#ccc)}"
    ".marker{stroke:var(--ink,#222);stroke-dasharray:4 3;opacity:.6}</style>";

constexpr const char* kColours[] = {"#3b7dd8", "#d8743b", "#3ba55d", "#a05ad6",
                                    "#c94f7c", "#8a8a2a", "#2aa5a5", "#777777"};
constexpr double kWidth = 640, kHeight = 300, kLeft = 62, kRight = 20, kTop = 22, kBottom = 40;

// Returns the nearest 1, 2 or 5 times a power of ten that is not below `step`.
double round_step(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

// One axis: the place of a value between the ends, and the labelled values.
struct Scale {
  bool logarithmic;
  double low = INFINITY, high = -INFINITY;
  std::vector<double> ticks;

  bool shows(double value) const { return std::isfinite(value) && (!logarithmic || value > 0); }
  void take(double value) {
    if (shows(value)) low = std::min(low, value), high = std::max(high, value);
  }
  double place(double value) const {
    if (high <= low) return 0.5;
    return logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }
  // Chooses round ends around the values, with a tick at each step.
  void round_linear() {
    if (high - low < 1e-9 * std::max(1e-3, std::max(std::abs(low), std::abs(high)))) low -= 0.5, high += 0.5;
    const double step = round_step((high - low) / 4);
    low = std::floor(low / step + 1e-9) * step;
    high = std::ceil(high / step - 1e-9) * step;
    for (int i = 0; low + i * step <= high + step / 2; ++i) ticks.push_back(low + i * step);
  }
  void round_logarithmic() {
    if (high <= low) low /= 2, high *= 2;
    const int from = static_cast<int>(std::floor(std::log10(low))), to = static_cast<int>(std::ceil(std::log10(high)));
    const int every = std::max(1, (to - from) / 6);
    for (int power = from; power <= to; power += every) {
      const double value = std::pow(10, power);
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push_back(value);
    }
    if (ticks.size() < 2) ticks = {low, high};
  }
};

double bar_offset(size_t curve, size_t curves) {
  return 4 * (static_cast<double>(curve) - static_cast<double>(curves - 1) / 2);
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) switch (c) {
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

std::string short_number(double value) { return fmt::format("{:.4g}", value); }

std::string line_chart(const Axes& axes, const std::vector<Curve>& curves) {
  Scale x{axes.log_x, INFINITY, -INFINITY, {}}, y{axes.log_y, INFINITY, -INFINITY, {}};
  for (const Curve& curve : curves)
    for (size_t i = 0; i < curve.points.size(); ++i) {
      const auto& [at, value] = curve.points[i];
      if (!x.shows(at) || !y.shows(value)) continue;
      x.take(at), y.take(value);
      if (!curve.half_heights.empty()) y.take(value - curve.half_heights[i]), y.take(value + curve.half_heights[i]);
    }
  if (!(x.low <= x.high)) return "<p>There is nothing to draw yet.</p>\n";
  for (const double tick : axes.x_ticks) x.take(tick);
  for (const Marker& marker : axes.markers) (marker.vertical ? x : y).take(marker.at);
  if (y.logarithmic)
    y.round_logarithmic();
  else
    y.round_linear();
  if (!axes.x_ticks.empty())
    x.ticks = axes.x_ticks;
  else if (x.logarithmic)
    x.round_logarithmic();
  else
    x.round_linear();

  const auto x_of = [&](double at) { return kLeft + x.place(at) * (kWidth - kLeft - kRight); };
  const auto y_of = [&](double value) { return kHeight - kBottom - y.place(value) * (kHeight - kTop - kBottom); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{} by {}\">{}\n",
      kWidth, kHeight + 18 * static_cast<double>(curves.size()), escaped(axes.y), escaped(axes.x), kSvgStyle);
  for (const double tick : y.ticks)
    svg += fmt::format(
        "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text x=\"{}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - kRight, y_of(tick), y_of(tick), kLeft - 6, y_of(tick) + 4, short_number(tick));
  double last = -100;
  for (const double tick : x.ticks) {
    if (x_of(tick) - last < 40) continue;  // labels would overlap
    last = x_of(tick);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", last, kHeight - kBottom + 20,
                       tick >= 1e5 ? short_number(tick) : fmt::format("{:.10g}", tick));
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><text x=\"4\" y=\"12\">{}</text>\n",
                     kWidth - kRight, kHeight - 6, escaped(axes.x), escaped(axes.y));
  for (const Marker& marker : axes.markers) {
    const double at = marker.vertical ? x_of(marker.at) : y_of(marker.at);
    svg += marker.vertical ? fmt::format(
                                 "<line class=\"marker\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/><text "
                                 "x=\"{3:.1f}\" y=\"{4}\" text-anchor=\"{5}\">{6}</text>\n",
                                 at, kTop, kHeight - kBottom, at > kWidth / 2 ? at - 4 : at + 4, kTop + 10,
                                 at > kWidth / 2 ? "end" : "start", escaped(marker.label))
                           : fmt::format(
                                 "<line class=\"marker\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/><text "
                                 "x=\"{0}\" y=\"{3:.1f}\">{4}</text>\n",
                                 kLeft, kWidth - kRight, at, at - 4, escaped(marker.label));
  }
  for (size_t i = 0; i < curves.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    std::string path, dots;
    for (size_t point = 0; point < curves[i].points.size(); ++point) {
      const auto& [at, value] = curves[i].points[point];
      if (!x.shows(at) || !y.shows(value)) continue;
      if (!curves[i].half_heights.empty()) {
        // Shifts the curves of a chart relative to each other, so that no bar hides another.
        const double half = curves[i].half_heights[point], place = x_of(at) + bar_offset(i, curves.size());
        dots += fmt::format(
            "<line class=\"bar\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>", place,
            y_of(value - half), y_of(value + half), colour);
      }
      path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x_of(at), y_of(value));
      if (curves[i].dots)
        dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>", x_of(at), y_of(value), colour);
    }
    svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" points=\"{}\"/>{}\n", colour,
                       curves[i].dots ? 2 : 1.3, path, dots);
    const double row = kHeight + 12 + 18 * static_cast<double>(i);
    svg += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{}</text>\n", kLeft,
        row - 6, colour, kLeft + 22, row, escaped(curves[i].label));
  }
  return svg + "</svg>\n";
}

std::string heat_map(const std::string& corner, const std::vector<std::string>& columns,
                     const std::vector<std::pair<std::string, std::vector<double>>>& rows) {
  std::string html = "<table class=\"heat\"><tr><th>" + escaped(corner) + "</th>";
  for (const std::string& column : columns) html += "<th>" + escaped(column) + "</th>";
  html += "</tr>\n";
  for (const auto& [label, values] : rows) {
    html += "<tr><td>" + escaped(label) + "</td>";
    for (const double value : values)
      // From orange through yellow to green, with dark text.
      html += std::isnan(value) ? "<td class=\"none\">&ndash;</td>"
                                : fmt::format("<td style=\"background:hsl({:.0f} 70% 62%)\">{:.2f}</td>",
                                              20 + 110 * std::clamp(value, 0.0, 1.0), value);
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
         // Nothing is fetched or executed, whatever a name contains.
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
         "img-src data:\">"
         "<meta name=\"generator\" content=\"carillon\"><meta name=\"viewport\" "
         "content=\"width=device-width\"><title>" +
         escaped(title) + "</title>" + kStyle + "</head><body>\n" + body + "</body></html>\n";
}

}  // namespace carillon
