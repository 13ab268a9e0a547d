// Ends a job in which a rank does not move any more. MPI itself waits for ever for a rank that is stopped, spins or is
// lost, so every rank has a watch thread, from before MPI starts until after it has ended. It calls no MPI (which is
// initialised for one thread only: MPI_THREAD_MULTIPLE costs every message a lock and is not to be had everywhere) but
// looks at what the ranks tell (runtime/progress.h):
//
//   on its machine   it maps the other ranks' records and asks the kernel about their processes (siblings.h). That
//                    works while they are stopped, and before there is any connection.
//   elsewhere        one rank of each machine tells the machine of rank 0 over TCP how long nothing has moved there
//                    (machine_links.h); silence for as long as the patience counts as lost.
//
// What ends the job:
//   stopped   a process that is stopped by a signal, for min(patience, kStoppedSeconds): it is certain that it does not
//             work. Whole jobs that are suspended and continued are not meant: while this thread is stopped too, or
//             gets no time from a loaded machine, its clock stops.
//   stuck     a rank that is at work of its own (not waiting for others) and has not moved for `patience`.
//   all wait  every rank of the job waits for others and none has moved for `patience`. If the main thread of one is
//             outside the MPI library although it should be inside, that one is stuck. Else, where all ranks share a
//             machine and no message can get lost, they wait for different things: collectives were mismatched, which
//             is exit code 70; with a network between them 75.
//   lost      a machine that has been silent for `patience`, or whose connection broke.
// A rank that is merely slow moves, and may take as long as it likes; the others wait, and are not to blame.
//
// One rank speaks: the line, and the last operations of the ranks of its machine. Then all leave by _exit, which the
// launcher makes every rank's end. mpirun and srun --kill-on-bad-exit take stopped ranks too.
#pragma once

#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

class RankWatch {
 public:
  static constexpr double kStoppedSeconds = 10;

  RankWatch();  // starts the thread; before MPI, on the main thread
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;

  // From now on this rank may end by exit(), as MPI_Abort does.
  static void expect_exit();
  // Connects the machines. Collective, once, when MPI is up.
  void connect(Communicator& world);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The last operations of this rank and of the others of this machine, as lines for a message.
std::string histories_of_machine();

}  // namespace carillon
