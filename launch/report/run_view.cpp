#include "launch/report/run_view.h"

#include <algorithm>
#include <cmath>

#include "launch/train/run_log.h"
#include "runtime/text.h"

namespace carillon {
namespace {

double number_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : NAN;
}

std::string shown(double value, const char* format) {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "-";
}

// Returns the seconds per step of the last steps (their median).
double seconds_a_step(const std::vector<Json>& steps) {
  constexpr size_t kLast = 20;
  std::vector<double> seconds;
  for (size_t i = steps.size() - std::min(steps.size(), kLast); i < steps.size(); ++i)
    if (const double value = number_of(steps[i], "seconds"); std::isfinite(value)) seconds.push_back(value);
  if (seconds.empty()) return NAN;
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<long>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

// Returns the columns of a text: its number of characters, because all of ours are one column wide.
size_t columns_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string cut(const std::string& text, size_t width) {
  size_t columns = 0, at = 0;
  for (; at < text.size(); ++at)
    if ((text[at] & 0xC0) != 0x80 && ++columns > width) break;
  return text.substr(0, at);
}

std::string first_line(const RunView& view) {
  std::string text = printable(view.folder);
  if (!view.steps.empty()) {
    const double step = number_of(view.steps.back(), "step"), all = number_of(view.steps.back(), "max_steps");
    text += fmt::format("  step {}{}", shown(step, "{:.0f}"), std::isfinite(all) ? fmt::format("/{:.0f}", all) : "");
    const double left = (all - step) * seconds_a_step(view.steps);
    if (view.state == RunState::kRunning && std::isfinite(left))
      text += fmt::format("  {} left", readable_seconds(std::max(0.0, left)));
  }
  switch (view.state) {
    case RunState::kRunning:
      return view.steps.empty() ? text + "  starting" : text;
    case RunState::kWaiting:
      return text + "  not at work" + (view.detail.empty() ? "" : ": " + printable(view.detail));
    case RunState::kEnded:
      return text + "  ended";
    case RunState::kFailed:
      return text + "  failed: " + printable(view.detail);
  }
  return text;
}

// Returns the last record's value of the key; null if there is none.
const Json* last_with(const std::vector<Json>& steps, const char* key) {
  for (auto step = steps.rbegin(); step != steps.rend(); ++step)
    if (const auto found = step->find(key); found != step->end() && !found->is_null()) return &*found;
  return nullptr;
}

}  // namespace

std::string sparkline(const std::vector<double>& values, size_t width) {
  const size_t count = std::min(width, values.size());
  std::vector<double> means;
  double least = INFINITY, largest = -INFINITY;
  for (size_t i = 0; i < count; ++i) {
    double sum = 0;
    int64_t finite = 0;
    for (size_t k = i * values.size() / count; k < (i + 1) * values.size() / count; ++k)
      if (std::isfinite(values[k])) sum += values[k], ++finite;
    means.push_back(finite > 0 ? sum / static_cast<double>(finite) : NAN);
    if (finite == 0) continue;
    least = std::min(least, means.back());
    largest = std::max(largest, means.back());
  }
  static const char* const kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string line;
  for (const double mean : means) {
    if (!std::isfinite(mean)) {
      line += ' ';
      continue;
    }
    const double height = largest > least ? (mean - least) / (largest - least) : 0;
    line += kBlocks[std::min(7, static_cast<int>(8 * height))];
  }
  return line;
}

std::vector<std::string> lines_of(const RunView& view, size_t width) {
  std::vector<std::string> lines{first_line(view)};
  if (!view.steps.empty()) {
    const Json& last = view.steps.back();
    std::vector<double> losses;
    for (const Json& step : view.steps) losses.push_back(number_of(step, "loss"));
    std::string head = "loss " + shown(number_of(last, "loss"), "{:.4f}") + "  ";
    const size_t used = columns_of(head);
    lines.push_back(head + sparkline(losses, width > used ? width - used : 0));
    lines.push_back(fmt::format("norm {}  lr {}  {} tok/s  {} tokens", shown(number_of(last, "grad_norm"), "{:.3g}"),
                                shown(number_of(last, "lr"), "{:.3g}"),
                                shown(number_of(last, "tokens_per_second"), "{:.0f}"),
                                shown(number_of(last, "tokens_total"), "{:.0f}")));
    if (const Json* sources = last_with(view.steps, "tokens_by_source"); sources != nullptr && sources->is_object()) {
      std::vector<std::pair<std::string, double>> sums;
      double all = 0;
      for (const auto& [name, unused] : sources->items()) sums.emplace_back(name, 0);
      for (const Json& step : view.steps)
        if (const auto found = step.find("tokens_by_source"); found != step.end() && found->is_object())
          for (auto& [name, sum] : sums)
            if (const double tokens = number_of(*found, name.c_str()); std::isfinite(tokens))
              sum += tokens, all += tokens;
      std::string line = "sources";
      for (const auto& [name, sum] : sums)
        line += fmt::format("  {} {:.1f}%", printable(name), all > 0 ? 100 * sum / all : 0.0);
      lines.push_back(line);
    }
    std::string memory = "memory";
    if (const Json* ranks = last_with(view.steps, "memory_by_rank"); ranks != nullptr && ranks->is_array()) {
      for (size_t rank = 0; rank < ranks->size(); ++rank)
        if ((*ranks)[rank].is_number())
          memory += fmt::format("  {}: {}", rank, readable_bytes(static_cast<int64_t>((*ranks)[rank].get<double>())));
    } else if (const double peak = number_of(last, "peak_memory_bytes"); std::isfinite(peak)) {
      memory += "  " + readable_bytes(static_cast<int64_t>(peak));
    }
    lines.push_back(memory);
  }
  constexpr size_t kEvaluations = 5;
  for (size_t i = view.evaluations.size() - std::min(view.evaluations.size(), kEvaluations);
       i < view.evaluations.size(); ++i) {
    const Json& record = view.evaluations[i];
    std::string line = fmt::format("after step {}: {} {} {}:", shown(number_of(record, "step"), "{:.0f}"),
                                   printable(record.value("task", "")), printable(record.value("rope_name", "")),
                                   shown(number_of(record, "length"), "{:.0f}"));
    const Json metrics = record.value("metrics", Json::object());
    for (const auto& [name, value] : metrics.items())
      if (value.is_number_float()) line += fmt::format("  {} {:.4g}", printable(name), value.get<double>());
    if (metrics.empty()) line += " " + printable(record.value("status", ""));
    lines.push_back(line);
  }
  for (std::string& line : lines) line = cut(line, width);
  return lines;
}

}  // namespace carillon
