// What machines tell each other while main threads may be stuck in MPI: a star of TCP connections from the first rank
// of each machine to rank 0. The main thread connects them once; after that only the watch threads use them. Every
// message begins with a secret that was distributed over MPI, so that messages of others on the network are rejected.
// With one machine there are no links, and nothing listens.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

class MachineLinks {
 public:
  // What one machine reports about itself.
  struct Report {
    double unmoved = 0;     // seconds since anything on it moved
    bool all_wait = false;  // all of its ranks wait for others
    std::string text;       // where its ranks are, human-readable
  };
  struct Machine {
    int first_rank = 0;
    std::string host;
    Report report;
    double silence = 0;   // seconds since the last message from it
    bool broken = false;  // its connection ended without a goodbye
    bool left = false;    // it said goodbye
  };

  // Collective. Machines are told apart by host name and PID namespace.
  explicit MachineLinks(Communicator& world);
  ~MachineLinks();  // says goodbye
  MachineLinks(const MachineLinks&) = delete;

  struct Process {
    int rank, pid;
  };
  const std::vector<Process>& here() const;  // the ranks of this machine including this one, ascending
  bool one_machine() const;
  // The machines this rank receives from: on rank 0 all others; on the first rank of another machine rank 0's;
  // otherwise none.
  const std::vector<Machine>& heard() const;
  // Sends and receives whatever is possible; never blocks. `seconds` have passed on the watch's clock.
  void exchange(const Report& own, double seconds);
  // end_all tells the other machines to exit with `code`. told_to_end returns the code this rank was told, or 0.
  void end_all(int code);
  int told_to_end() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace carillon
