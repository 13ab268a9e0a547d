#include "launch/report/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "launch/report/chart.h"
#include "launch/report/comparison_section.h"
#include "launch/report/rope_chart.h"
#include "runtime/text.h"

namespace carillon {
namespace {

std::string safe(const std::string& text) { return escaped(printable(text)); }

double number_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : NAN;
}

// The metric that represents a task, recognised from what was measured.
std::string main_metric_of(const Json& metrics) {
  for (const char* name : {"longppl", "perplexity", "ood_accuracy", "accuracy"})
    if (metrics.contains(name)) return name;
  return "loss";
}

struct Row {
  std::string model, rope;
  std::map<int64_t, const Json*> by_length;
};

struct Task {
  std::string name, metric;
  std::vector<Row> rows;
  std::set<int64_t> lengths;
};

std::string label_of(const Row& row) { return row.model + (row.model.empty() ? "" : ", ") + row.rope; }

std::vector<Task> tasks_of(const std::vector<Json>& records) {
  std::vector<Task> tasks;
  for (const Json& record : records) {
    const std::string name = record.value("task", "");
    auto task = std::find_if(tasks.begin(), tasks.end(), [&](const Task& known) { return known.name == name; });
    if (task == tasks.end()) task = tasks.insert(tasks.end(), {name, "", {}, {}});
    const Json metrics = record.value("metrics", Json::object());
    if (task->metric.empty() && !metrics.empty()) task->metric = main_metric_of(metrics);
    const Json step = record.value("step", Json());
    const std::string model = record.value("model", "") +
                              (step.is_number() ? (record.contains("model") ? ", step " : "step ") + step.dump() : "");
    const std::string rope = record.value("rope_name", "");
    auto row = std::find_if(task->rows.begin(), task->rows.end(),
                            [&](const Row& known) { return known.model == model && known.rope == rope; });
    if (row == task->rows.end()) row = task->rows.insert(task->rows.end(), {model, rope, {}});
    const int64_t length = record.value("length", int64_t{0});
    row->by_length[length] = &record;
    task->lengths.insert(length);
  }
  return tasks;
}

bool has_number(const Json& record, const std::string& metric) {
  return record.contains("metrics") && record["metrics"].contains(metric) && record["metrics"][metric].is_number();
}

std::string metric_table(const Task& task, const std::string& metric) {
  std::string html = "<table><tr><th>model</th><th>rope</th>";
  for (const int64_t length : task.lengths) html += fmt::format("<th>{}</th>", length);
  html += "</tr>\n";
  for (const Row& row : task.rows) {
    html += "<tr><td>" + safe(row.model) + "</td><td>" + safe(row.rope) + "</td>";
    for (const int64_t length : task.lengths) {
      const auto found = row.by_length.find(length);
      std::string cell = "&ndash;";
      if (found != row.by_length.end() && found->second->value("status", "ok") == "failed")
        cell = "failed: " + safe(found->second->value("error", ""));
      else if (found != row.by_length.end() && has_number(*found->second, metric))
        cell = short_number((*found->second)["metrics"][metric].get<double>());
      html += "<td>" + cell + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string metric_by_length(const Task& task) {
  Axes axes{"tokens", task.metric, true, false, {}, {}};
  for (const int64_t length : task.lengths) axes.x_ticks.push_back(static_cast<double>(length));
  std::vector<Curve> curves;
  for (const Row& row : task.rows) {
    curves.push_back({label_of(row), {}, true});
    for (const auto& [length, record] : row.by_length)
      if (has_number(*record, task.metric))
        curves.back().points.emplace_back(static_cast<double>(length), (*record)["metrics"][task.metric].get<double>());
  }
  return line_chart(axes, curves);
}

// loss_by_position (middle of each bin) or accuracy_by_position, at the longest length.
std::string by_position(const Task& task) {
  std::vector<Curve> curves;
  bool loss = false;
  for (const Row& row : task.rows) {
    const auto longest = row.by_length.find(*task.lengths.rbegin());
    if (longest == row.by_length.end() || !longest->second->contains("metrics")) continue;
    const Json& metrics = (*longest->second)["metrics"];
    curves.push_back({label_of(row), {}, true});
    auto& points = curves.back().points;
    if (metrics.contains("loss_by_position")) {
      loss = true;
      for (const Json& bin : metrics["loss_by_position"])
        points.emplace_back(std::sqrt(number_of(bin, "from") * (number_of(bin, "to") - 0.5)), number_of(bin, "loss"));
    } else if (metrics.contains("accuracy_by_position")) {
      // Sixteen positions per point, because single ones are noise.
      curves.back().dots = false;
      double sum = 0;
      int64_t count = 0, position = 0;
      for (const Json& value : metrics["accuracy_by_position"]) {
        if (value.is_number()) sum += value.get<double>(), ++count;
        if (++position % 16 == 0 && count > 0) {
          points.emplace_back(static_cast<double>(position - 8), sum / static_cast<double>(count));
          sum = 0, count = 0;
        }
      }
    }
  }
  if (std::all_of(curves.begin(), curves.end(), [](const Curve& curve) { return curve.points.empty(); })) return "";
  return fmt::format("<h3>by position, {} tokens</h3>\n", *task.lengths.rbegin()) +
         line_chart({"position", loss ? "loss" : "accuracy", loss, false, {}, {}}, curves);
}

// loss_by_position_linear at the longest length. The trained length is marked if the record implies it:
// loss_past_training ends as far beyond it as the window does.
std::string by_equal_positions(const Task& task) {
  std::vector<Curve> curves;
  Axes axes{"position", "loss", false, false, {}, {}};
  const int64_t length = *task.lengths.rbegin();
  for (const Row& row : task.rows) {
    const auto longest = row.by_length.find(length);
    if (longest == row.by_length.end() || !longest->second->contains("metrics")) continue;
    const Json& metrics = (*longest->second)["metrics"];
    if (!metrics.contains("loss_by_position_linear")) continue;
    curves.push_back({label_of(row), {}, true});
    for (const Json& bin : metrics["loss_by_position_linear"])
      curves.back().points.emplace_back((number_of(bin, "from") + number_of(bin, "to")) / 2, number_of(bin, "loss"));
    if (axes.markers.empty() && metrics.contains("loss_past_training") && !metrics["loss_past_training"].empty())
      axes.markers.push_back({true, static_cast<double>(length) - number_of(metrics["loss_past_training"].back(), "to"),
                              "trained length"});
  }
  if (curves.empty()) return "";
  return fmt::format("<h3>by position in equal parts, {} tokens</h3>\n", length) + line_chart(axes, curves);
}

// length × depth, one map per model and rope setting.
std::string depth_maps(const Task& task) {
  std::string html;
  for (const Row& row : task.rows) {
    std::map<double, std::map<int64_t, double>> cells;
    for (const auto& [length, record] : row.by_length)
      if (record->contains("metrics") && (*record)["metrics"].contains("by_depth"))
        for (const Json& depth : (*record)["metrics"]["by_depth"])
          cells[number_of(depth, "depth")][length] = number_of(depth, "accuracy");
    if (cells.empty()) continue;
    std::vector<std::string> columns;
    for (const int64_t length : task.lengths) columns.push_back(std::to_string(length));
    std::vector<std::pair<std::string, std::vector<double>>> rows;
    for (const auto& [depth, by_length] : cells) {
      rows.emplace_back(fmt::format("{:.0f} %", 100 * depth), std::vector<double>());
      for (const int64_t length : task.lengths)
        rows.back().second.push_back(by_length.contains(length) ? by_length.at(length) : NAN);
    }
    html += "<h3>" + safe(label_of(row)) + "</h3>\n" + heat_map("depth \\ tokens", columns, rows);
  }
  return html;
}

// Returns at most 400 points, each the mean of a stretch.
Curve training_curve(const ReportRun& run, const char* key) {
  Curve curve{run.name, {}, false};
  const size_t stretch = (run.steps.size() + 399) / 400;
  double sum = 0;
  size_t count = 0;
  for (size_t i = 0; i < run.steps.size(); ++i) {
    const double value = number_of(run.steps[i], key);
    if (std::isfinite(value)) sum += value, ++count;
    if ((i + 1) % stretch != 0 && i + 1 != run.steps.size()) continue;
    if (count > 0) curve.points.emplace_back(number_of(run.steps[i], "step"), sum / static_cast<double>(count));
    sum = 0, count = 0;
  }
  return curve;
}

double median(std::vector<double> values) {
  if (values.empty()) return NAN;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Target tokens by source, for runs with named sources.
std::string sources_table(const std::vector<ReportRun>& runs) {
  std::string rows;
  for (const ReportRun& run : runs) {
    std::vector<std::pair<std::string, double>> sums;
    double all = 0;
    for (const Json& step : run.steps) {
      const auto found = step.find("tokens_by_source");
      if (found == step.end() || !found->is_object()) continue;
      for (const auto& [name, tokens] : found->items()) {
        if (!tokens.is_number()) continue;
        auto sum =
            std::find_if(sums.begin(), sums.end(), [&name = name](const auto& known) { return known.first == name; });
        if (sum == sums.end()) sum = sums.insert(sums.end(), {name, 0});
        sum->second += tokens.get<double>();
        all += tokens.get<double>();
      }
    }
    for (const auto& [name, sum] : sums)
      rows += fmt::format("<tr><td>{}</td><td>{}</td><td>{:.0f}</td><td>{:.1f} %</td></tr>\n", safe(run.name),
                          safe(name), sum, all > 0 ? 100 * sum / all : 0.0);
  }
  if (rows.empty()) return "";
  return "<table><tr><th>run</th><th>source</th><th>target tokens</th><th>share</th></tr>\n" + rows + "</table>\n";
}

std::string runs_section(const std::vector<ReportRun>& runs) {
  std::vector<Curve> loss, norm;
  std::string facts =
      "<table><tr><th>run</th><th>steps</th><th>tokens</th><th>last loss</th><th>tokens/s</th><th>memory per rank, "
      "MiB</th></tr>\n";
  std::string configurations;
  for (const ReportRun& run : runs) {
    loss.push_back(training_curve(run, "loss"));
    norm.push_back(training_curve(run, "grad_norm"));
    std::vector<double> speed;
    double memory = 0;
    for (const Json& step : run.steps) {
      if (const double value = number_of(step, "tokens_per_second"); std::isfinite(value)) speed.push_back(value);
      if (const double value = number_of(step, "peak_memory_bytes"); std::isfinite(value))
        memory = std::max(memory, value);
    }
    const Json last = run.steps.empty() ? Json::object() : run.steps.back();
    facts +=
        fmt::format("<tr><td>{}</td><td>{:.0f}</td><td>{:.0f}</td><td>{}</td><td>{:.0f}</td><td>{:.0f}</td></tr>\n",
                    safe(run.name), number_of(last, "step"), number_of(last, "tokens_total"),
                    short_number(number_of(last, "loss")), median(speed), memory / (1 << 20));
    if (!run.configuration.empty())
      configurations += "<details><summary>configuration of " + safe(run.name) + "</summary><pre>" +
                        escaped(run.configuration) + "</pre></details>\n";
  }
  return "<h2>Training</h2>\n" + line_chart({"step", "loss", false, false, {}, {}}, loss) +
         line_chart({"step", "gradient norm", false, true, {}, {}}, norm) + facts + "</table>\n" + sources_table(runs) +
         configurations;
}

std::string ropes_section(const std::vector<std::pair<std::string, RopeReport>>& ropes) {
  std::string table =
      "<table><tr><th>setting</th><th>critical dimension</th><th>pairs without feature gap</th><th>largest "
      "gap</th></tr>\n";
  for (const auto& [name, report] : ropes) {
    int64_t closed = 0;
    double largest = 0;
    for (const RopePairReport& pair : report.pairs) {
      closed += pair.feature_gap == 0;
      largest = std::max(largest, pair.feature_gap);
    }
    table += fmt::format("<tr><td>{}</td><td>{} of {}</td><td>{}</td><td>{}</td></tr>\n", safe(name),
                         report.critical_dimension, report.pairs.size(), closed, short_number(largest));
  }
  return "<h2>Rotation</h2>\n" + rope_wavelength_chart(ropes) + rope_gap_chart(ropes) + table + "</table>\n";
}

}  // namespace

std::string report_html(const ReportInput& input) {
  std::string body = "<h1>" + safe(input.title) + "</h1>\n";
  const auto failed = std::count_if(input.records.begin(), input.records.end(),
                                    [](const Json& record) { return record.value("status", "ok") == "failed"; });
  if (!input.records.empty())
    body += fmt::format("<p>{} evaluations, {} of them failed.{}</p>\n", input.records.size(), failed,
                        input.superseded == 0
                            ? ""
                            : fmt::format(" {} more are not shown: a name of theirs stood for other settings than in "
                                          "the last sweep.",
                                          input.superseded));
  for (const Task& task : tasks_of(input.records)) {
    body += "<h2>" + safe(task.name) + "</h2>\n" + metric_by_length(task) + "<h3>" + safe(task.metric) + "</h3>\n" +
            metric_table(task, task.metric);
    for (const char* beside : {"id_accuracy", "ood_accuracy_leaky", "ood_accuracy_fresh", "bits_per_byte"})
      if (std::any_of(input.records.begin(), input.records.end(), [&](const Json& record) {
            return record.value("task", "") == task.name && has_number(record, beside);
          }))
        body += "<h3>" + std::string(beside) + "</h3>\n" + metric_table(task, beside);
    body += by_position(task) + by_equal_positions(task) + comparison_section(input.comparisons, task.name) +
            depth_maps(task);
  }
  if (!input.runs.empty()) body += runs_section(input.runs);
  if (!input.ropes.empty()) body += ropes_section(input.ropes);
  return html_page(printable(input.title), body);
}

}  // namespace carillon
