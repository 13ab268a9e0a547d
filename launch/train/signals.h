// Being asked to stop: SIGUSR1, SIGUSR2 (Slurm's warning before the limit, mpirun passes both on) and SIGTERM.
#pragma once

namespace carillon {

class StopSignals {
 public:
  StopSignals();   // the first such signal sets a flag, a second one ends the process at once with 128 + its number
  ~StopSignals();  // the default again
  StopSignals(const StopSignals&) = delete;

  bool requested() const;
};

}  // namespace carillon
