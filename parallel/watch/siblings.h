// Finds the other ranks of this machine without their help: processes of the same user, program and launch whose
// progress record (runtime/progress.h) can be mapped through /proc. Works before MPI is up, and while they are stopped.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/progress.h"

namespace carillon {

struct Sibling {
  int pid = 0;
  int rank = 0;
  const ProgressRecord* record = nullptr;  // in their memory: it changes while it is read
};

class Siblings {
 public:
  Siblings() = default;
  ~Siblings();
  Siblings(const Siblings&) = delete;

  // Adds those that have appeared since the last look. Examines every process of the machine.
  void look();
  // The same if the processes are known: adds those that can be mapped, and forgets all others.
  void look_at(const std::vector<int>& pids);
  const std::vector<Sibling>& all() const { return all_; }

 private:
  void add(int pid);
  void forget(const Sibling& sibling);
  std::vector<Sibling> all_;
};

// State of a process in the kernel: 'R' 'S' 'D' running and sleeping, 'T' stopped by a signal, 't' by a debugger, 'Z'
// and 'X' dead; '\0': there is no such process.
char state_of_process(int pid);

// This process's rank, number of ranks and job, from the launcher's environment; needs no MPI.
struct Launched {
  int rank = 0;
  int ranks = 1;
  uint64_t job = 0;
};
Launched launched_as();

}  // namespace carillon
