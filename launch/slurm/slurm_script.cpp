#include "launch/slurm/slurm_script.h"

#include <cmath>

#include "runtime/error.h"

namespace carillon {
namespace {

constexpr double kMostNodes = 65536, kMostTasks = 4096;
constexpr double kLongestJob = 365 * 86400.0;  // seconds; sites allow days
constexpr double kLargestSignalTime = 65535;   // sbatch takes 16 bits
constexpr double kSlurmMayBeEarly = 60;        // seconds: it checks once per minute

// The value of a directive is on a comment line: line breaks and other characters that a name would not contain are
// refused.
std::string directive(const std::string& value, const char* key) {
  if (value.empty() || value.find_first_of(" \t\r\n'\"\\`$") != std::string::npos)
    fail(ExitCode::kUsage, "slurm.{} is \"{}\", on the command line, give a name without blanks and quotes", key,
         value);
  return value;
}

std::string clock(double seconds) {
  const auto minutes = static_cast<int64_t>(std::ceil(seconds / 60));
  return fmt::format("{:02}:{:02}:00", minutes / 60, minutes % 60);
}

// Returns the number of GPUs per node that the job requests.
int64_t gpus_of(const SlurmSection& slurm, const std::string& device) {
  const int64_t gpus = slurm.gpus_per_node.value_or(device == "cuda" ? slurm.tasks_per_node : 0);
  if (gpus == 0 && device == "cuda")
    fail(ExitCode::kUsage,
         "runtime.device is cuda and the job asks for no GPU, in slurm.gpus_per_node, leave it out or give as many as "
         "slurm.tasks_per_node");
  if (gpus > 0 && device != "cuda" && device != "auto")
    fail(ExitCode::kUsage, "the job asks for GPUs and computes on \"{}\", in slurm.gpus_per_node, leave it out",
         device);
  if (gpus > 0 &&
      (gpus < slurm.tasks_per_node || (slurm.gpu_request == GpuRequest::kPerTask && gpus % slurm.tasks_per_node)))
    fail(ExitCode::kUsage,
         "{} GPUs per node do not serve {} ranks per node, in slurm.gpus_per_node, give one GPU per rank (a multiple "
         "of the ranks with gpus-per-task)",
         gpus, slurm.tasks_per_node);
  return gpus;
}

}  // namespace

std::string shell_word(const std::string& word) {
  if (!word.empty() &&
      word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,-+@%") ==
          std::string::npos)
    return word;
  std::string result = "'";
  for (const char c : word) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result + "'";
}

void declare_slurm(Schema& schema, SlurmSection& slurm) {
  schema.section("slurm", "The resources to request.");
  schema.integer("slurm.nodes", slurm.nodes, "Number of nodes.").at_least(1).at_most(kMostNodes);
  schema.integer("slurm.tasks_per_node", slurm.tasks_per_node, "Ranks per node.").at_least(1).at_most(kMostTasks);
  schema.integer("slurm.cpus_per_task", slurm.cpus_per_task, "Cores per rank.").at_least(1).at_most(kMostTasks);
  schema.integer("slurm.gpus_per_node", slurm.gpus_per_node, "GPUs per node.")
      .at_least(0)
      .at_most(kMostTasks)
      .default_is("one per rank where runtime.device is cuda, else none");
  schema.choice("slurm.gpu_request", slurm.gpu_request,
                {{"gpus-per-node", GpuRequest::kPerNode},
                 {"gres", GpuRequest::kGenericResource},
                 {"gpus-per-task", GpuRequest::kPerTask}},
                "How GPUs are requested: per node, as a generic resource, or per task.");
  schema.duration("slurm.time", slurm.time, "Time limit of the job; must exceed signal_seconds by a minute.")
      .above(0)
      .at_most(kLongestJob);
  schema.text("slurm.partition", slurm.partition, "Partition to submit to.").default_is("the site's");
  schema.text("slurm.account", slurm.account, "Account to charge.").default_is("yours");
  schema.text("slurm.job_name", slurm.job_name, "Name of the job.").default_is("carillon");
  schema
      .integer("slurm.signal_seconds", slurm.signal_seconds,
               "How many seconds before the time limit a checkpoint is written.")
      .at_least(1)
      .at_most(kLargestSignalTime);
  schema.boolean("slurm.mpirun", slurm.mpirun, "Starts ranks with mpirun instead of srun and PMIx.");
  schema.integer("slurm.array", slurm.array, "Number of tasks of a job array that share a sweep.")
      .at_least(1)
      .at_most(kMostNodes)
      .default_is("no array");
}

void require_working_job(const SlurmSection& slurm) {
  if (slurm.time <= static_cast<double>(slurm.signal_seconds) + kSlurmMayBeEarly)
    fail(ExitCode::kUsage,
         "the job's limit of {:.0f} s leaves nothing before the signal, which comes {} s earlier (Slurm may send it a "
         "minute before that), in slurm.time, give more time or a smaller slurm.signal_seconds",
         slurm.time, slurm.signal_seconds);
}

std::string slurm_script(const SlurmSection& slurm, const std::string& device, const std::string& command,
                         const std::string& output, const std::vector<std::string>& arguments) {
  require_working_job(slurm);
  const int64_t gpus = gpus_of(slurm, device);
  const int64_t ranks = slurm.nodes * slurm.tasks_per_node;
  if (slurm.array && command != "sweep")
    fail(ExitCode::kUsage, "slurm.array is for sweeps, on the command line, leave it out: one job trains one run");
  std::string text = "#!/bin/bash\n# Written by carillon slurm. Site settings first; the rest need not be touched.\n";
  const auto line = [&](const std::string& option) { text += "#SBATCH " + option + "\n"; };
  if (slurm.job_name && slurm.job_name->find('/') != std::string::npos)
    fail(ExitCode::kUsage, "slurm.job_name is {}, on the command line, leave out the '/': the log is named after it",
         *slurm.job_name);
  line("--job-name=" + directive(slurm.job_name.value_or("carillon"), "job_name"));
  if (slurm.partition) line("--partition=" + directive(*slurm.partition, "partition"));
  if (slurm.account) line("--account=" + directive(*slurm.account, "account"));
  line(fmt::format("--nodes={} --ntasks-per-node={} --cpus-per-task={}", slurm.nodes, slurm.tasks_per_node,
                   slurm.cpus_per_task));
  std::string binding;  // for srun
  if (gpus > 0 && slurm.gpu_request == GpuRequest::kPerTask) {
    line(fmt::format("--gpus-per-task={}", gpus / slurm.tasks_per_node));
  } else if (gpus > 0) {
    line(slurm.gpu_request == GpuRequest::kGenericResource ? fmt::format("--gres=gpu:{}", gpus)
                                                           : fmt::format("--gpus-per-node={}", gpus));
    // Every rank sees all GPUs of its node and uses one of them: otherwise NCCL cannot connect them directly.
    binding = " --gpu-bind=none";
  }
  line("--time=" + clock(slurm.time));
  line(slurm.array ? fmt::format("--array=0-{} --output=%x-%A_%a.log --open-mode=append", *slurm.array - 1)
                   : "--output=%x-%j.log --open-mode=append");
  text += fmt::format("# {} seconds before the limit (Slurm may be a minute early) the shell is signalled: below.\n",
                      slurm.signal_seconds);
  line(fmt::format("--requeue --signal=B:USR1@{}", slurm.signal_seconds));
  text +=
      "\nset -u\n# srun no longer inherits --cpus-per-task.\n"
      "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}\n"
      "echo \"job $SLURM_JOB_ID, start ${SLURM_RESTART_COUNT:-0}, on $SLURM_JOB_NODELIST\"\n\n"
      "carillon=${CARILLON:-carillon}\n";
  std::string words = command;
  for (const std::string& argument : arguments) words += " " + shell_word(argument);
  if (ranks == 1)
    text += fmt::format("\"$carillon\" {} &\n", words);
  else if (slurm.mpirun)
    text += fmt::format("mpirun --map-by \"slot:PE=${{SLURM_CPUS_PER_TASK:-1}}\" --bind-to core \"$carillon\" {} &\n",
                        words);
  else
    text += fmt::format("srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores{} \"$carillon\" {} &\n", binding, words);
  text +=
      "job=$!\n"
      "# The ranks finish their step, write a checkpoint and leave with 85; preemption may send TERM alone.\n"
      "trap 'kill -USR1 $job 2>/dev/null' USR1 TERM\n"
      "# wait returns early on a trap.\n"
      "while :; do wait $job; code=$?; kill -0 $job 2>/dev/null || break; done\n"
      "again() { scontrol requeue \"$SLURM_JOB_ID\"; sleep 60; }\n"
      "# What the job had done when it last failed, and how often it failed there: three times without anything new "
      "are\n"
      "# enough. A stop by a signal (85) costs nothing.\n";
  text += "output=" + shell_word(output) + "\n";
  text += command == "sweep" ? "done_so_far() { wc -l 2>/dev/null <\"$output/evals.jsonl\" || echo 0; }\n"
                             : "done_so_far() { for step in \"$output\"/checkpoints/step-*; do echo \"${step##*/}\"; "
                               "done | sort | tail -n 1; }\n";
  text +=
      "retry() {\n"
      "  local file=\"$output/.retries-$SLURM_JOB_ID\" failures=0 before='' now\n"
      "  now=$(done_so_far)\n"
      "  mkdir -p -- \"$output\"; [ -f \"$file\" ] && read -r failures before <\"$file\"\n"
      "  [ \"$before\" = \"$now\" ] || failures=0\n"
      "  [ \"$failures\" -lt 3 ] || { echo \"failed $failures times without progress: not started again\"; return; }\n"
      "  echo \"$((failures + 1)) $now\" >\"$file\"; again\n"
      "}\n"
      "# 74, 75: disk or a lost peer. Above 128: killed (137: out of memory, 139: crashed).\n"
      "case $code in\n"
      "  85) again ;;\n"
      "  74 | 75 | 13[4-9] | 143) retry ;;\n"
      "esac\n"
      "exit $code\n";
  return text;
}

}  // namespace carillon
