#include "launch/evaluate/sweep_comparisons.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "launch/config/schema.h"
#include "launch/config/yaml.h"
#include "launch/evaluate/comparison.h"
#include "launch/evaluate/sweep_results.h"
#include "runtime/text.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Returns the baseline; by default the first rope setting, or, if there is only one, the first model.
std::string baseline_of(const SweepConfig& config) {
  if (config.baseline) return *config.baseline;
  return config.rope.size() > 1 ? config.rope.begin().key() : config.models.front();
}

struct Seed {
  std::string others;  // the configuration without the seed and without what does not affect training
  int64_t seed;
  std::string before;  // seeds of the runs it started from, nearest first: empty, "3", "3 1"
};

// Returns the seed of a run's folder or checkpoint; nothing for other models. If a run started from another run, that
// run's configuration replaces its path: runs extended from bases that differ only in their seed then differ only in
// their seed too. `depth`: links followed so far, so that a cycle ends.
std::optional<Seed> seed_of(const std::string& model, int depth = 0) {
  std::error_code error;
  fs::path file = fs::path(model) / "config.yaml";
  if (!fs::exists(file, error)) file = fs::path(model).parent_path().parent_path() / "config.yaml";
  if (!fs::is_regular_file(file, error) || depth > 16) return std::nullopt;
  try {
    Json run = detail::free_json(parse_yaml_file(file.string()));
    if (!run.is_object() || !run.contains("train") || !run["train"].contains("seed") ||
        !run["train"]["seed"].is_number_integer())
      return std::nullopt;
    const auto seed = run["train"]["seed"].get<int64_t>();
    run["train"].erase("seed");
    for (const char* section : {"output", "parallel", "runtime", "checkpoint", "eval", "slurm"}) run.erase(section);
    std::string before;
    if (run.contains("model") && run["model"].is_object() && run["model"].value("base", Json()).is_string())
      if (const auto base = seed_of(run["model"]["base"].get<std::string>(), depth + 1)) {
        run["model"]["base"] = base->others;
        before = std::to_string(base->seed) + (base->before.empty() ? "" : " " + base->before);
      }
    return Seed{run.dump(), seed, before};
  } catch (const Error&) {
    return std::nullopt;  // another kind of file with that name
  }
}

// Returns, by model, the runs of one configuration and several seeds; runs without a sibling are left out.
std::map<std::string, Seed> seeds_of(const SweepConfig& config) {
  std::map<std::string, Seed> found;
  std::map<std::string, std::set<std::pair<int64_t, std::string>>> groups;
  for (const std::string& model : config.models)
    if (const auto seed = seed_of(model)) {
      found.emplace(model, *seed);
      groups[seed->others].emplace(seed->seed, seed->before);
    }
  std::erase_if(found, [&](const auto& entry) { return groups[entry.second.others].size() < 2; });
  return found;
}

class Comparer {
 public:
  Comparer(const SweepConfig& config, const std::vector<SweepPoint>& points, const std::map<std::string, Json>& records)
      : config_(config), records_(records), baseline_(baseline_of(config)), seeds_(seeds_of(config)) {
    for (const SweepPoint& point : points) {
      const auto record = records.find(point.id);
      if (record != records.end() && record->second["status"] == "ok") points_.push_back(&point);
    }
  }

  Json run() {
    result_ = {{"baseline", baseline_}, {"comparisons", Json::array()}, {"seeds", Json::array()}};
    for (const Json& task : config_.tasks)
      for (const int64_t length : config_.lengths) {
        losses_.clear();
        std::vector<const SweepPoint*> here;
        for (const SweepPoint* point : points_)
          if (point->task == task && point->length == length) here.push_back(point);
        if (task["task"] == "perplexity")
          for (const SweepPoint* point : here)
            if (const SweepPoint* partner = partner_of(*point, here)) compare(*point, *partner);
        group(task, here);
      }
    return result_;
  }

 private:
  bool by_rope() const { return config_.rope.contains(baseline_); }

  const SweepPoint* partner_of(const SweepPoint& point, const std::vector<const SweepPoint*>& here) const {
    std::string model = point.model, rope = point.rope_name;
    if (by_rope()) {
      if (rope == baseline_) return nullptr;
      rope = baseline_;
    } else {
      model = baseline_;
      const auto own = seeds_.find(point.model), theirs = seeds_.find(baseline_);
      if (point.model == baseline_) return nullptr;
      if (own != seeds_.end() && theirs != seeds_.end()) {
        if (own->second.others == theirs->second.others) return nullptr;
        for (const auto& [other, seed] : seeds_)
          if (seed.others == theirs->second.others && seed.seed == own->second.seed &&
              seed.before == own->second.before)
            model = other;
      }
    }
    std::vector<const SweepPoint*> found;
    for (const SweepPoint* other : here)
      if (other->model == model && other->rope_name == rope) found.push_back(other);
    for (const SweepPoint* other : found)
      if (other->step == point.step) return other;
    return found.size() == 1 ? found.front() : nullptr;
  }

  static std::string told_of(const SweepPoint& point) {
    return printable(point.model) + (point.step ? fmt::format(" step {}", *point.step) : "") + ", " +
           printable(point.rope_name);
  }
  static Json step_of(const SweepPoint& point) { return point.step ? Json(*point.step) : Json(); }

  const UnitLosses& losses_of(const SweepPoint& point) {
    auto found = losses_.find(point.id);
    if (found == losses_.end())
      found = losses_.emplace(point.id, read_unit_losses(unit_losses_path(config_.output, point.id))).first;
    return found->second;
  }

  void compare(const SweepPoint& point, const SweepPoint& partner) {
    Json entry = {{"task", point.task["name"]},
                  {"length", point.length},
                  {"model", point.model},
                  {"step", step_of(point)},
                  {"rope", point.rope_name},
                  {"baseline_model", partner.model},
                  {"baseline_step", step_of(partner)},
                  {"baseline_rope", partner.rope_name}};
    const auto refuse = [&](const std::string& why) {
      entry["refused"] = fmt::format("{} at {} tokens: {} is not compared with {}: {}",
                                     printable(point.task["name"].get<std::string>()), point.length, told_of(point),
                                     told_of(partner), why);
    };
    try {
      const Comparison found = compare_losses({{&losses_of(point), &losses_of(partner)}});
      if (!found.refusal.empty()) {
        refuse(found.refusal);
      } else {
        write(entry, found.all);
        entry["unit"] = found.unit;
        entry["by_position"] = bins_of(found.by_position);
        entry["past_training"] = bins_of(found.past_training);
        partners_[point.id] = &partner;
      }
    } catch (const Error& error) {
      // The point was evaluated by a version without this file, or the file was removed: other pairs are still
      // compared.
      if (error.code() != ExitCode::kMissingInput && error.code() != ExitCode::kBadInput) throw;
      refuse(error.what());
    }
    result_["comparisons"].push_back(std::move(entry));
  }

  static Json error_of(const Difference& difference) {
    return difference.standard_error ? Json(*difference.standard_error) : Json();
  }
  static void write(Json& entry, const Difference& difference) {
    entry["difference"] = difference.mean;
    entry["standard_error"] = error_of(difference);
    entry["units"] = difference.units;
    entry["tokens"] = difference.tokens;
  }
  static Json bins_of(const std::vector<BinDifference>& bins) {
    Json list = Json::array();
    for (const BinDifference& bin : bins) {
      list.push_back({{"from", bin.from}, {"to", bin.to}});
      write(list.back(), bin.difference);
    }
    return list;
  }

  // Groups runs of one configuration with the same rope setting and step. A seed counts once: a second run of it, or
  // the same run under another path, says nothing about the spread over seeds.
  void group(const Json& task, const std::vector<const SweepPoint*>& here) {
    std::vector<std::pair<std::string, std::vector<const SweepPoint*>>> groups;
    for (const SweepPoint* point : here) {
      const auto seed = seeds_.find(point->model);
      if (seed == seeds_.end()) continue;
      const std::string key = Json{seed->second.others, step_of(*point), point->rope_name}.dump();
      auto found = std::find_if(groups.begin(), groups.end(), [&](const auto& entry) { return entry.first == key; });
      if (found == groups.end()) found = groups.insert(groups.end(), {key, {}});
      const bool known = std::any_of(found->second.begin(), found->second.end(), [&](const SweepPoint* member) {
        const Seed& other = seeds_.at(member->model);
        return other.seed == seed->second.seed && other.before == seed->second.before;
      });
      if (!known) found->second.push_back(point);
    }
    for (const auto& [key, members] : groups)
      if (members.size() > 1) add_group(task, members);
  }

  void add_group(const Json& task, const std::vector<const SweepPoint*>& members) {
    const std::string metric = main_metric(task);
    Json entry = {{"task", task["name"]},
                  {"length", members.front()->length},
                  {"step", step_of(*members.front())},
                  {"rope", members.front()->rope_name},
                  {"runs", Json::array()},
                  {"seeds", Json::array()},
                  {"metric", metric},
                  {"values", Json::array()}};
    std::vector<double> values, differences;
    std::vector<LossPair> pairs;
    for (const SweepPoint* point : members) {
      const Json& value = records_.at(point->id)["metrics"].value(metric, Json());
      entry["runs"].push_back(point->model);
      entry["seeds"].push_back(seeds_.at(point->model).seed);
      entry["values"].push_back(value);
      if (value.is_number()) values.push_back(value.get<double>());
      if (const auto partner = partners_.find(point->id); partner != partners_.end())
        pairs.emplace_back(&losses_of(*point), &losses_of(*partner->second));
    }
    if (values.size() < 2) return;
    const Difference over_seeds = over_values(values);
    entry["mean"] = over_seeds.mean;
    entry["standard_error"] = error_of(over_seeds);
    if (pairs.size() == members.size()) {
      for (const LossPair& pair : pairs) differences.push_back(compare_losses({pair}).all.mean);
      const Difference spread = over_values(differences);
      const Comparison together = compare_losses(pairs);
      entry["difference"] = spread.mean;
      entry["difference_standard_error"] = error_of(spread);
      entry["difference_standard_error_over_documents"] = together.refusal.empty() ? error_of(together.all) : Json();
    }
    result_["seeds"].push_back(std::move(entry));
  }

  const SweepConfig& config_;
  const std::map<std::string, Json>& records_;
  std::string baseline_;
  std::map<std::string, Seed> seeds_;
  std::vector<const SweepPoint*> points_;  // done
  std::map<std::string, UnitLosses> losses_;
  std::map<std::string, const SweepPoint*> partners_;  // of compared points
  Json result_;
};

std::string with_error(const Json& value, const Json& error) {
  if (!value.is_number()) return "-";
  const std::string spread = error.is_number() ? fmt::format("{:.5f}", error.get<double>()) : "?";
  return fmt::format("{:+.5f} ± {}", value.get<double>(), spread);
}
// Pads to `width` columns; "±" has more bytes than columns.
std::string cell(const std::string& text, size_t width) {
  const size_t seen = text.size() - (text.find("±") == std::string::npos ? 0 : 1);
  return std::string(seen < width ? width - seen : 1, ' ') + text;
}

std::string name_of(const Json& entry) {
  const std::string model = printable(entry["model"].get<std::string>());
  return model + (entry["step"].is_number() ? " " + entry["step"].dump() : "");
}

// Groups the entries of `list` by task, in order.
std::vector<std::pair<std::string, std::vector<const Json*>>> by_task(const Json& list) {
  std::vector<std::pair<std::string, std::vector<const Json*>>> tasks;
  for (const Json& entry : list) {
    const std::string name = entry["task"].get<std::string>();
    auto task = std::find_if(tasks.begin(), tasks.end(), [&](const auto& known) { return known.first == name; });
    if (task == tasks.end()) task = tasks.insert(tasks.end(), {name, {}});
    task->second.push_back(&entry);
  }
  return tasks;
}

std::string bins_table(const std::vector<const Json*>& entries, const char* key, const std::string& title) {
  int64_t longest = 0;
  for (const Json* entry : entries) longest = std::max(longest, (*entry)["length"].get<int64_t>());
  std::vector<const Json*> columns;
  std::vector<std::pair<int64_t, int64_t>> bins;
  for (const Json* entry : entries)
    if ((*entry)["length"] == longest && entry->contains(key) && !(*entry)[key].empty()) {
      columns.push_back(entry);
      for (const Json& bin : (*entry)[key]) {
        const std::pair edges(bin["from"].get<int64_t>(), bin["to"].get<int64_t>());
        if (std::find(bins.begin(), bins.end(), edges) == bins.end()) bins.push_back(edges);
      }
    }
  if (columns.empty()) return "";
  std::sort(bins.begin(), bins.end());
  // Columns are named by what distinguishes them: the rope setting or, if that is the same for all, the model.
  std::set<std::string> ropes;
  for (const Json* column : columns) ropes.insert((*column)["rope"].get<std::string>());
  const auto heading = [&](const Json& column) {
    const std::string rope = printable(column["rope"].get<std::string>());
    if (ropes.size() == columns.size()) return rope;
    return ropes.size() == 1 ? name_of(column) : name_of(column) + ", " + rope;
  };
  std::string text = fmt::format("{}, at {} tokens\n{:<16}", title, longest, "");
  for (const Json* column : columns) text += cell(heading(*column), 22);
  text += "\n";
  for (const auto& [from, to] : bins) {
    text += fmt::format("{:<16}", fmt::format("{}-{}", from, to));
    for (const Json* column : columns) {
      std::string value = "-";
      for (const Json& bin : (*column)[key])
        if (bin["from"] == from && bin["to"] == to) value = with_error(bin["difference"], bin["standard_error"]);
      text += cell(value, 22);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

void check_baseline(const SweepConfig& config) {
  if (!config.baseline || config.rope.contains(*config.baseline) ||
      std::find(config.models.begin(), config.models.end(), *config.baseline) != config.models.end())
    return;
  std::vector<std::string> names;
  for (const auto& [name, settings] : config.rope.items()) names.push_back(name);
  fail(ExitCode::kUsage, "compare.baseline is {}, in compare, give one of the rope settings ({}) or of the models",
       printable(*config.baseline), join(names));
}

Json compare_points(const SweepConfig& config, const std::vector<SweepPoint>& points,
                    const std::map<std::string, Json>& records) {
  return Comparer(config, points, records).run();
}

std::string comparison_tables(const Json& comparisons) {
  std::string text;
  for (const auto& [task, entries] : by_task(comparisons["comparisons"])) {
    std::set<int64_t> lengths;
    std::set<std::string> units;
    for (const Json* entry : entries) {
      lengths.insert((*entry)["length"].get<int64_t>());
      if (entry->contains("unit")) units.insert((*entry)["unit"].get<std::string>());
    }
    text += fmt::format("\n{}, loss less that of {}, nats per token ± standard error over {}\n{:<40} {:<18}",
                        printable(task), printable(comparisons["baseline"].get<std::string>()),
                        units.empty() ? "documents" : join({units.begin(), units.end()}, " or "), "model", "rope");
    for (const int64_t length : lengths) text += cell(std::to_string(length), 22);
    std::set<std::string> rows;
    for (const Json* entry : entries) {
      const std::string label =
          fmt::format("\n{:<40} {:<18}", name_of(*entry), printable((*entry)["rope"].get<std::string>()));
      if (!rows.insert(label).second) continue;
      text += label;
      for (const int64_t length : lengths) {
        std::string value = "-";
        for (const Json* other : entries)
          if ((*other)["length"] == length && (*other)["model"] == (*entry)["model"] &&
              (*other)["step"] == (*entry)["step"] && (*other)["rope"] == (*entry)["rope"])
            value = other->contains("refused") ? "not compared"
                                               : with_error((*other)["difference"], (*other)["standard_error"]);
        text += cell(value, 22);
      }
    }
    text += "\n" + bins_table(entries, "by_position", "by position in the window") +
            bins_table(entries, "past_training", "by distance past the trained length");
  }
  for (const auto& [task, entries] : by_task(comparisons["seeds"])) {
    text += fmt::format("\n{}, {} over runs that differ in train.seed alone, mean ± standard error over seeds\n",
                        printable(task), (*entries.front())["metric"].get<std::string>());
    for (const Json* entry : entries) {
      const size_t runs = (*entry)["runs"].size();
      const std::string name = fmt::format("{} and {} more{}", printable((*entry)["runs"][0].get<std::string>()),
                                           runs - 1, (*entry)["step"].is_number() ? " " + (*entry)["step"].dump() : "");
      text += fmt::format(
          "{:<40} {:<18} {:>9} {}", name, printable((*entry)["rope"].get<std::string>()),
          (*entry)["length"].get<int64_t>(),
          fmt::format("{:.4f} ± {:.4f}", (*entry)["mean"].get<double>(), (*entry)["standard_error"].get<double>()));
      if (entry->contains("difference"))
        text += fmt::format(
            "; less {}: {} over seeds, ± {} over documents", printable(comparisons["baseline"].get<std::string>()),
            with_error((*entry)["difference"], (*entry)["difference_standard_error"]),
            (*entry)["difference_standard_error_over_documents"].is_number()
                ? fmt::format("{:.5f}", (*entry)["difference_standard_error_over_documents"].get<double>())
                : "?");
      text += "\n";
    }
  }
  return text;
}

std::vector<std::string> comparison_refusals(const Json& comparisons) {
  std::vector<std::string> lines;
  for (const Json& entry : comparisons["comparisons"])
    if (entry.contains("refused")) lines.push_back(entry["refused"].get<std::string>());
  return lines;
}

}  // namespace carillon
