// The sbatch script of a run or a sweep: site settings on top, signal before the limit, checkpoint, requeue.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/config/schema.h"

namespace carillon {

struct SlurmSection {
  int64_t nodes = 1;
  int64_t tasks_per_node = 1;
  int64_t cpus_per_task = 8;
  double time = 4 * 3600;  // seconds
  std::optional<std::string> partition, account, job_name;
  int64_t signal_seconds = 300;  // before the limit
  bool mpirun = false;           // in place of srun with PMIx
  std::optional<int64_t> array;  // so many tasks of a job array that share a sweep
};

void declare_slurm(Schema& schema, SlurmSection& section);

// One word for a shell, quoted where it must be.
std::string shell_word(const std::string& word);

// Error 64 for a job that the signal before its limit would end as it begins.
void require_working_job(const SlurmSection& slurm);

// `command`: train or sweep; `output`: its folder, by which the script tells progress; `arguments` after it as they
// are to stand in the shell. The script starts the job again after a stop by a signal, always, and after a failure
// worth a retry, up to three times without progress.
std::string slurm_script(const SlurmSection& slurm, const std::string& command, const std::string& output,
                         const std::vector<std::string>& arguments);

}  // namespace carillon
