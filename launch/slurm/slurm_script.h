// The sbatch script of a run or a sweep: site settings first, then a signal before the time limit, a checkpoint, a
// requeue.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/config/schema.h"

namespace carillon {

// How the job requests GPUs, depending on the site: per node, so that every task sees all of the node's GPUs and NCCL
// can connect them by NVLink; the same as a generic resource; or per task, which then sees only its own, as number 0
// (parallel/transport/device_index.h).
enum class GpuRequest { kPerNode, kGenericResource, kPerTask };

struct SlurmSection {
  int64_t nodes = 1;
  int64_t tasks_per_node = 1;
  int64_t cpus_per_task = 8;
  // 0: none. Not set: one per rank if the configuration has `device: cuda`, otherwise none.
  std::optional<int64_t> gpus_per_node;
  GpuRequest gpu_request = GpuRequest::kPerNode;
  double time = 4 * 3600;  // seconds
  std::optional<std::string> partition, account, job_name;
  int64_t signal_seconds = 300;  // before the limit
  bool mpirun = false;           // instead of srun with PMIx
  std::optional<int64_t> array;  // number of tasks in a job array that shares a sweep
};

void declare_slurm(Schema& schema, SlurmSection& section);

// Returns a word for the shell, quoted if necessary.
std::string shell_word(const std::string& word);

// Fails with error 64 for a job that would be ended as soon as it starts, by the signal before its limit.
void require_working_job(const SlurmSection& slurm);

// Returns the script. `device`: the configuration's runtime.device. `command`: train or sweep. `output`: its folder,
// from which the script recognises progress. `arguments`: shell words that follow the command. The script always
// restarts the job after a stop by a signal, and after a failure worth a retry up to three times without progress.
std::string slurm_script(const SlurmSection& slurm, const std::string& device, const std::string& command,
                         const std::string& output, const std::vector<std::string>& arguments);

}  // namespace carillon
