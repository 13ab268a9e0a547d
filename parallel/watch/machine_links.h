// What machines tell each other while main threads may be stuck in MPI: a star of TCP connections, from one rank of
// each machine (its first) to rank 0. Connected once on the main thread, used by the watch threads alone. A secret that
// went over MPI opens every message, so that nobody else on the network is listened to. Within one machine there are no
// links and nothing listens.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

class MachineLinks {
 public:
  // What one machine says of itself.
  struct Report {
    double unmoved = 0;     // seconds since anything on it moved
    bool all_wait = false;  // every rank of it waits for others
    std::string text;       // where its ranks are, for a person
  };
  struct Machine {
    int first_rank = 0;
    std::string host;
    Report report;
    double silence = 0;   // seconds since it was last heard
    bool broken = false;  // its connection ended without a goodbye
    bool left = false;    // it said goodbye
  };

  // Collective. Machines are told apart by host name and space of process ids.
  explicit MachineLinks(Communicator& world);
  ~MachineLinks();  // says goodbye
  MachineLinks(const MachineLinks&) = delete;

  struct Process {
    int rank, pid;
  };
  const std::vector<Process>& here() const;  // the ranks of this machine, ascending, this one among them
  bool one_machine() const;
  // The machines this rank receives from: all others for rank 0; rank 0's for the first rank of another; else none.
  const std::vector<Machine>& heard() const;
  // Sends and receives what there is; never waits. `seconds` have passed on the watch's clock.
  void exchange(const Report& own, double seconds);
  // The others are told to leave, and why not; or nothing yet: 0, else the exit code.
  void end_all(int code);
  int told_to_end() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace carillon
