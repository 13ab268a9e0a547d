// The sbatch script of a run or a sweep: site settings on top, signal before the limit, checkpoint, requeue.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/config/schema.h"

namespace carillon {

// How GPUs are asked for, as the site takes it: for the node, every task then seeing all of its GPUs, which lets NCCL
// join them by NVLink; the same as a generic resource; or for each task, which then sees its own only, as number 0
// (parallel/transport/device_index.h).
enum class GpuRequest { kPerNode, kGenericResource, kPerTask };

struct SlurmSection {
  int64_t nodes = 1;
  int64_t tasks_per_node = 1;
  int64_t cpus_per_task = 8;
  // 0: none. Absent: one a rank for a configuration that says `device: cuda`, else none.
  std::optional<int64_t> gpus_per_node;
  GpuRequest gpu_request = GpuRequest::kPerNode;
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

// `device`: the configuration's runtime.device. `command`: train or sweep; `output`: its folder, by which the script
// tells progress; `arguments` after it as they are to stand in the shell. The script starts the job again after a stop
// by a signal, always, and after a failure worth a retry, up to three times without progress.
std::string slurm_script(const SlurmSection& slurm, const std::string& device, const std::string& command,
                         const std::string& output, const std::vector<std::string>& arguments);

}  // namespace carillon
