#include "launch/report/comparison_section.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "launch/report/chart.h"
#include "runtime/foreign_error.h"
#include "runtime/text.h"

namespace carillon {
namespace {

constexpr double kInterval = 1.96;  // standard errors on each side: 95 % of a normal distribution

std::string safe(const Json& text) {
  return escaped(printable(text.is_string() ? text.get<std::string>() : text.dump()));
}

std::string label_of(const Json& entry) {
  const Json step = entry.value("step", Json());
  return printable(entry.value("model", "")) + (step.is_number() ? ", step " + step.dump() : "") + ", " +
         printable(entry.value("rope", ""));
}

bool is_number(const Json& entry, const char* key) { return entry.contains(key) && entry.at(key).is_number(); }

void add_point(Curve& curve, double at, const Json& entry) {
  curve.points.emplace_back(at, entry.at("difference").get<double>());
  curve.half_heights.push_back(is_number(entry, "standard_error") ? kInterval * entry.at("standard_error").get<double>()
                                                                  : 0);
}

std::string told(const Json& value, const Json& error) {
  if (!value.is_number()) return "&ndash;";
  return fmt::format("{:+.5f} &plusmn; {}", value.get<double>(),
                     error.is_number() ? fmt::format("{:.5f}", error.get<double>()) : "?");
}

// Returns the labels of the curves, one per setting.
std::vector<std::string> labels_of(const std::vector<const Json*>& entries) {
  std::vector<std::string> labels;
  for (const Json* entry : entries)
    if (std::find(labels.begin(), labels.end(), label_of(*entry)) == labels.end()) labels.push_back(label_of(*entry));
  return labels;
}

std::string by_length(const std::vector<const Json*>& entries, const std::string& axis) {
  Axes axes{"tokens", axis, true, false, {}, {{false, 0, "equal"}}};
  std::set<int64_t> lengths;
  std::vector<Curve> curves;
  for (const std::string& label : labels_of(entries)) {
    curves.push_back({label, {}, true, {}});
    for (const Json* entry : entries) {
      if (label_of(*entry) != label || !is_number(*entry, "difference")) continue;
      lengths.insert(entry->at("length").get<int64_t>());
      add_point(curves.back(), entry->at("length").get<double>(), *entry);
    }
  }
  for (const int64_t length : lengths) axes.x_ticks.push_back(static_cast<double>(length));
  return line_chart(axes, curves);
}

std::string by_bin(const std::vector<const Json*>& entries, const char* key, const std::string& x,
                   const std::string& axis) {
  int64_t longest = 0;
  for (const Json* entry : entries) longest = std::max(longest, entry->at("length").get<int64_t>());
  std::vector<Curve> curves;
  bool any = false;
  for (const Json* entry : entries) {
    if (entry->at("length") != longest || !entry->contains(key)) continue;
    curves.push_back({label_of(*entry), {}, true, {}});
    for (const Json& bin : entry->at(key)) {
      // The middle of the bin on the logarithmic axis.
      const double from = std::max(1.0, bin.at("from").get<double>()), to = bin.at("to").get<double>();
      if (is_number(bin, "difference")) add_point(curves.back(), std::sqrt(from * std::max(from, to - 0.5)), bin);
    }
    any = any || !curves.back().points.empty();
  }
  if (!any) return "";
  return line_chart({fmt::format("{}, at {} tokens", x, longest), axis, true, false, {}, {{false, 0, "equal"}}},
                    curves);
}

std::string table(const std::vector<const Json*>& entries) {
  std::string html =
      "<table><tr><th>model</th><th>rope</th><th>tokens</th><th>difference &plusmn; standard error</th><th>over</th>"
      "<th>tokens scored</th></tr>\n";
  for (const Json* entry : entries) {
    if (entry->contains("refused")) {
      html += "<tr><td colspan=\"6\">" + safe(entry->at("refused")) + "</td></tr>\n";
      continue;
    }
    const Json step = entry->value("step", Json());
    html +=
        fmt::format("<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} {}</td><td>{}</td></tr>\n",
                    safe(entry->at("model")), step.is_number() ? ", step " + step.dump() : "", safe(entry->at("rope")),
                    entry->at("length").dump(), told(entry->at("difference"), entry->at("standard_error")),
                    entry->at("units").dump(), safe(entry->at("unit")), entry->at("tokens").dump());
  }
  return html + "</table>\n";
}

std::string seeds_table(const std::vector<const Json*>& entries, const std::string& baseline) {
  std::string html =
      "<h3>over seeds</h3>\n<p>Runs that differ in train.seed alone; mean &plusmn; standard error over "
      "seeds.</p>\n<table><tr><th>runs</th><th>seeds</th><th>rope</th><th>tokens</th><th>" +
      safe(entries.front()->at("metric")) + "</th><th>loss less " + baseline +
      ", over seeds</th><th>its standard error over documents</th></tr>\n";
  for (const Json* entry : entries) {
    std::vector<std::string> runs, seeds;
    for (const Json& run : entry->at("runs")) runs.push_back(safe(run));
    for (const Json& seed : entry->at("seeds")) seeds.push_back(seed.dump());
    const Json documents = entry->value("difference_standard_error_over_documents", Json());
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} &plusmn; {}</td><td>{}</td><td>{}</td></tr>\n",
        join(runs), join(seeds), safe(entry->at("rope")), entry->at("length").dump(),
        short_number(entry->at("mean").get<double>()), short_number(entry->at("standard_error").get<double>()),
        told(entry->value("difference", Json()), entry->value("difference_standard_error", Json())),
        documents.is_number() ? fmt::format("{:.5f}", documents.get<double>()) : "&ndash;");
  }
  return html + "</table>\n";
}

std::vector<const Json*> of_task(const Json& comparisons, const char* list, const std::string& task) {
  std::vector<const Json*> entries;
  if (comparisons.is_object() && comparisons.contains(list))
    for (const Json& entry : comparisons.at(list))
      if (entry.value("task", "") == task) entries.push_back(&entry);
  return entries;
}

}  // namespace

std::string comparison_section(const Json& comparisons, const std::string& task) {
  const WorkingOn here("comparisons.json");
  const auto entries = of_task(comparisons, "comparisons", task), seeds = of_task(comparisons, "seeds", task);
  std::string html;
  const std::string baseline = comparisons.is_object() ? printable(comparisons.value("baseline", "")) : "";
  if (!entries.empty()) {
    const std::string axis = "loss less that of " + baseline + ", nats per token";
    html +=
        "<h3>" + escaped(axis) +
        "</h3>\n<p>The same tokens under both, in pairs; bars are 1.96 standard errors on either side. Below zero the "
        "setting is better than " +
        escaped(baseline) + ".</p>\n" + by_length(entries, axis) + table(entries) +
        by_bin(entries, "by_position", "position in the window", axis) +
        by_bin(entries, "past_training", "tokens past the trained length", axis);
  }
  if (!seeds.empty()) html += seeds_table(seeds, escaped(baseline));
  return html;
}

}  // namespace carillon
