// Ends a job in which a rank has stopped making progress. MPI itself waits for ever for a rank that is stopped, spins
// or is lost. So every rank has a watch thread, from before MPI starts until after it has ended. The thread calls no
// MPI (which is initialised for one thread only: MPI_THREAD_MULTIPLE costs every message a lock and is not available
// everywhere) but looks at the ranks' progress records (runtime/progress.h):
//
//   on its machine   it maps the other ranks' records and asks the kernel about their processes (siblings.h). This
//                    works while they are stopped, and before there is any connection.
//   elsewhere        one rank of each machine tells the machine of rank 0 over TCP for how long nothing has moved there
//                    (machine_links.h). A machine that is silent for the patience counts as lost.
//
// What ends the job:
//   stopped   a process that a signal has stopped for min(patience, kStoppedSeconds): it certainly does not work. Whole
//             jobs that are suspended and continued do not count: while this thread is stopped too, or gets no time
//             from a loaded machine, its clock stops.
//   stuck     a rank that does its own work (does not wait for others) and has not moved for `patience`.
//   all wait  every rank of the job waits for others and none has moved for `patience`. If the main thread of one is
//             outside the MPI library although it should be inside, that rank is stuck. Otherwise, if all ranks share a
//             machine, so that no message can be lost, they wait for different things: collectives are mismatched,
//             which is exit code 70; with a network between them it is 75.
//   lost      a machine that has been silent for `patience`, or whose connection broke.
// A rank that is merely slow still moves and may take as long as it likes; the ranks that wait for it are not blamed.
//
// One rank prints the error line and the last operations of the ranks of its machine. Then all ranks leave by _exit,
// and the launcher ends the job. mpirun and srun --kill-on-bad-exit also end stopped ranks.
#pragma once

#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

class RankWatch {
 public:
  static constexpr double kStoppedSeconds = 10;

  RankWatch();  // starts the thread; call it before MPI, on the main thread
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;

  // From now on this rank may end by exit(), as MPI_Abort does.
  static void expect_exit();
  // Connects the machines. Collective; call it once, when MPI is up.
  void connect(Communicator& world);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The last operations of the ranks of this machine, this one included, as lines for a message.
std::string histories_of_machine();

}  // namespace carillon
