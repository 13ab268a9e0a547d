// carillon sweep: models × rope settings × lengths × tasks; a restart does what is missing.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <utility>

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/commands/commands.h"
#include "launch/evaluate/evaluator.h"
#include "launch/evaluate/point_inputs.h"
#include "launch/evaluate/sweep_claims.h"
#include "launch/evaluate/sweep_comparisons.h"
#include "launch/evaluate/sweep_results.h"
#include "launch/evaluate/watched_runs.h"
#include "launch/session/standard_streams.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"
#include "runtime/text.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr auto kSilentWait = std::chrono::seconds(10);  // for other processes' points

class Sweep {
 public:
  Sweep(Program& program, SweepConfig config, bool quiet)
      : config_(std::move(config)),
        quiet_(quiet),
        session_(program.make_world(), config_.parallel, config_.runtime, program.notice()),
        results_(config_.output),
        watched_(config_) {
    agree(*world_, [&] {
      points_ = sweep_points(config_);
      if (world_->rank() != 0) return;
      identify_inputs(points_, config_);
      check_folder();
      std::error_code error;
      fs::create_directories(fs::path(config_.output) / "losses", error);
      if (error) fail_to_create("cannot be created", error.value(), config_.output, "name another output");
      claims_ = std::make_unique<SweepClaims>(config_.output);
      results_.read();
    });
    session_.start_device();
  }

  ExitCode run() {
    for (auto point = next(); point; point = next()) evaluate(*point);
    require_some_points();
    int64_t failed = 0;
    agree(*world_, [&] {
      if (world_->rank() != 0) return;
      const Activity activity("a sweep's tables");
      const auto& records = results_.read();
      for (const SweepPoint& point : points_) failed += records.at(point.id)["status"] == "failed";
      const Json comparisons = compare_points(config_, points_, records);
      for (const std::string& line : comparison_refusals(comparisons)) session_.notice()(line);
      results_.write_files(points_, comparisons);
      fmt::print("{}{}", results_.table(config_, points_), comparison_tables(comparisons));
      std::fflush(stdout);
    });
    failed = world_->max(failed);
    if (failed > 0)
      fail(ExitCode::kBadInput,
           "{} of {} points failed, {}/evals.jsonl, each record names its reason; start again to try them again",
           failed, points_.size(), config_.output);
    return ExitCode::kDone;
  }

 private:
  // Of a run's folder, evals.jsonl and the page are the run's; of a model's, none of the files are a sweep's.
  void check_folder() const {
    std::error_code error;
    check_result_folder({.path = config_.output,
                         .names = {"table.csv", "comparisons.json", "lm_eval.json", "report.html"},
                         .others = {"config.json", "manifest.json", "checkpoints", "metrics.jsonl"},
                         .known = fs::is_directory(fs::path(config_.output) / "losses", error)},
                        {config_.read_from}, config_.overwrite);
  }

  // The next point that is neither done nor somebody else's; nothing when all are done. Rank 0 decides.
  std::optional<SweepPoint> next() {
    const Activity activity("choosing a sweep's next point");
    std::string chosen;
    agree(*world_, [&] {
      if (world_->rank() != 0) return;
      if (const auto point = choose()) chosen = to_json(*point).dump();
    });
    chosen = broadcast_text(*world_, chosen);
    return chosen.empty() ? std::nullopt : std::optional(sweep_point_of(Json::parse(chosen)));
  }

  std::optional<SweepPoint> choose() {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      throw_if_stop_requested("waiting for the next point of the sweep");
      // Asked before the list is made, because a run completes its last checkpoint before it reports its end.
      const bool last_look = !config_.watch || watched_.ended();
      if (config_.watch) look_again();
      const auto& records = results_.read();
      bool others = false;
      std::string elsewhere;  // a point that another process has claimed
      for (const SweepPoint& point : points_) {
        const auto record = records.find(point.id);
        const bool settled =
            record != records.end() && (is_result_of(record->second, point) || failed_.contains(point.id));
        if (settled) continue;
        if (record != records.end() && record->second["status"] == "ok") report_replaced(record->second, point);
        if (!claims_->take(point.id)) {
          if (!others) elsewhere = point.id;
          others = true;
          continue;
        }
        // Another process may have finished it between the reading and the claim.
        const auto& now = results_.read();
        const auto finished = now.find(point.id);
        if (finished != now.end() && is_result_of(finished->second, point)) {
          claims_->give_back();
          continue;
        }
        return point;
      }
      if (!others && last_look) return std::nullopt;
      if (others && std::chrono::steady_clock::now() - begin > kSilentWait && !std::exchange(waits_, true))
        session_.notice()(fmt::format("waiting for points that others have claimed, such as {} ({})",
                                      config_.output + "/claims/" + elsewhere, claims_->holder_of(elsewhere)));
      std::this_thread::sleep_for(std::chrono::milliseconds(others ? 200 : 1000));
    }
  }

  // Says once why the points of a model or a task are evaluated again.
  void report_replaced(const Json& record, const SweepPoint& point) {
    const bool model = !is_of_model(record, point);
    const std::string task = point.task["name"].get<std::string>();
    if (!replaced_.insert(model ? point.path : "task " + task).second) return;
    session_.notice()(model ? fmt::format("this is not the model that was evaluated before, {}, its points are "
                                          "evaluated again",
                                          point.path)
                            : fmt::format("the data or settings of task {} are not those of its records, {}, its "
                                          "points are evaluated again",
                                          task, config_.read_from));
  }

  // A run that ended, or was given up, before its first checkpoint leaves nothing to evaluate.
  void require_some_points() {
    agree(*world_, [&] {
      if (world_->rank() != 0) return;
      for (const std::string& text : watched_.given_up()) session_.notice()(text);
      if (points_.empty())
        fail(ExitCode::kMissingInput, "there is no checkpoint to evaluate, {}, train first (the runs have ended)",
             join(config_.models));
    });
  }

  // Lists new checkpoints; finished points stay in the table when their run removes the checkpoint.
  void look_again() {
    std::vector<SweepPoint> now = sweep_points(config_);
    identify_inputs(now, config_);
    const auto& records = results_.read();
    for (SweepPoint& known : points_)
      if (records.contains(known.id) &&
          std::none_of(now.begin(), now.end(), [&](const SweepPoint& point) { return point.id == known.id; }))
        now.push_back(std::move(known));
    points_ = std::move(now);
    const auto place = [&](const SweepPoint& point) {
      const auto model = std::find(config_.models.begin(), config_.models.end(), point.model);
      return std::pair(model - config_.models.begin(), point.step.value_or(-1));
    };
    std::stable_sort(points_.begin(), points_.end(),
                     [&](const SweepPoint& a, const SweepPoint& b) { return place(a) < place(b); });
  }

  void evaluate(const SweepPoint& point) {
    UnitLosses units;
    const Json record = record_point(point, [&] { return evaluator_.run(point, &units); });
    agree(*world_, [&] {
      if (world_->rank() != 0) return;
      // Written before the record, which needs it for comparisons: if the process is killed in between, the point is
      // evaluated again.
      if (record["status"] == "ok" && !units.units.empty())
        write_whole_file(unit_losses_path(config_.output, point.id), units.json().dump() + "\n");
      if (record["status"] == "failed") failed_.insert(point.id);
      results_.append(record);
      claims_->give_back();
      if (!quiet_) write_to_screen(printable(progress(point, record)) + "\n");
    });
  }

  std::string progress(const SweepPoint& point, const Json& record) const {
    std::string text =
        fmt::format("{}{} {} {} {}: ", point.model, point.step ? fmt::format(" step {}", *point.step) : "",
                    point.rope_name, point.length, point.task["name"].get<std::string>());
    text += outcome_of(point, record);
    return record["status"] == "failed" ? text : text + fmt::format(" in {:.1f} s", record["seconds"].get<double>());
  }

  SweepConfig config_;
  bool quiet_;
  Session session_;
  Communicator* world_ = &session_.world();
  SweepResults results_;
  WatchedRuns watched_;
  std::vector<SweepPoint> points_;
  std::unique_ptr<SweepClaims> claims_;  // rank 0
  std::set<std::string> replaced_;       // models and tasks that report_replaced() named
  bool waits_ = false;                   // said that other processes are waited for
  std::set<std::string> failed_;         // in this start: not tried again until the next
  Evaluator evaluator_{session_, config_};
};

}  // namespace

std::string help_sweep() {
  SweepConfig config;
  Schema schema;
  declare_sweep(schema, config);
  return schema.help();
}

ExitCode run_sweep(Program& program, const CommandLine& line) {
  if (line.files.size() != 1)
    fail(ExitCode::kUsage,
         "sweep takes one configuration file, not {}, on the command line, carillon sweep CONFIG.yaml",
         line.files.size());
  return Sweep(program, load_sweep_config(line.files[0], line.overrides), line.quiet).run();
}

}  // namespace carillon
