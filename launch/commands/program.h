// The process-wide object that main() owns and passes to a command: MPI, if a launcher started several ranks, and
// messages to the user.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "parallel/transport/communicator.h"
#include "parallel/transport/mpi_environment.h"
#include "parallel/watch/rank_watch.h"

namespace carillon {

class Program {
 public:
  Program();  // starts MPI under mpirun or srun; otherwise MPI is never initialised
  ~Program();

  // Returns a new communicator of all ranks (collective); without MPI a group of one.
  std::unique_ptr<Communicator> make_world();
  bool main_rank() const { return rank_ == 0; }
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  // Prints a line "carillon: warning: …" to standard error.
  void warning(const std::string& text) const;
  // Prints an informative line "carillon: …" to standard error, on rank 0 only.
  void say(const std::string& text) const;
  // Returns warning() restricted to rank 0, for what all ranks notice. Must not outlive the program.
  std::function<void(const std::string&)> notice() const;

  // Reports why the program ends and ends every rank. If all ranks fail alike, only rank 0 prints, and the exit code is
  // returned. Text after the first newline is printed below the line. A stop by a signal (code 85) is not reported as
  // an error.
  int leave_with_error(int code, const std::string& message);

 private:
  std::unique_ptr<RankWatch> watch_;  // exists from before MPI starts until after it has ended
  std::unique_ptr<MpiEnvironment> mpi_;
  int rank_ = 0;
  int ranks_ = 1;
};

// Returns "carillon: error: MESSAGE" and its details as printable lines; `rank` ("[rank 1]") ends the first line.
std::string error_text(const std::string& message, const std::string& rank);

}  // namespace carillon
