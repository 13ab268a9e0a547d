#include "parallel/transport/mpi_environment.h"

#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "parallel/transport/mpi_communicator.h"
#include "runtime/progress.h"

namespace carillon {

bool started_under_mpi() {
  // Open MPI's mpirun; PMI-2 and PMIx of srun and other launchers. srun without an MPI plugin sets only SLURM_
  // variables; then a Slurm step of one task is a single process.
  if (std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMIX_RANK") || std::getenv("PMI_RANK")) return true;
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  return tasks != nullptr && std::atoi(tasks) > 1;
}

struct MpiEnvironment::State {
  MPI_Comm leaving = MPI_COMM_NULL;  // used by all_failed only: nothing else is ever in flight on it
};

MpiEnvironment::MpiEnvironment() : state_(std::make_unique<State>()) {
  const Operation starting(Operation::Kind::kWait, "MPI_Init", "world");
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
    fail(ExitCode::kLostPeer, "MPI does not start, in MPI_Init, check the launcher");
  MPI_Comm_dup(MPI_COMM_WORLD, &state_->leaving);
  MPI_Comm_set_errhandler(state_->leaving, MPI_ERRORS_RETURN);
}

MpiEnvironment::~MpiEnvironment() {
  const Activity ending("the end");
  const Operation operation(Operation::Kind::kWait, "MPI_Finalize", "world");
  MPI_Comm_free(&state_->leaving);
  MPI_Finalize();
}

std::unique_ptr<Communicator> MpiEnvironment::world() {
  MPI_Comm made = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &made), "duplicating the world", "world");
  return make_mpi_communicator(made, "world");
}

int MpiEnvironment::rank() const {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}
int MpiEnvironment::size() const {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

bool MpiEnvironment::all_failed(double seconds) {
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(state_->leaving, &request) != MPI_SUCCESS) return false;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  int done = 0;
  while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done) {
    if (std::chrono::steady_clock::now() > end) return false;
    usleep(1000);
  }
  return done != 0;
}

void MpiEnvironment::abort(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace carillon
