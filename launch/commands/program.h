// What main() owns and a command is handed: MPI, if a launcher started several ranks, and the way to speak to the
// person.
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
  Program();  // starts MPI under mpirun or srun; alone MPI is never initialised
  ~Program();

  // All ranks, a new communicator each time (collective); alone a group of one.
  std::unique_ptr<Communicator> make_world();
  bool main_rank() const { return rank_ == 0; }
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  // One line on standard error, "carillon: warning: …".
  void warning(const std::string& text) const;
  // A line of information there, "carillon: …", from rank 0 alone.
  void say(const std::string& text) const;
  // The same from rank 0 alone; for what all ranks notice. Must not outlive the program.
  std::function<void(const std::string&)> notice() const;

  // Says why the program ends and takes every rank with it; returns the exit code if all ranks fail alike, and then
  // rank 0 alone has spoken. Details after the first newline go below the line.
  // A stop by a signal (code 85) is no error and is said as what it is.
  int leave_with_error(int code, const std::string& message);

 private:
  std::unique_ptr<RankWatch> watch_;  // before MPI starts until after it ended
  std::unique_ptr<MpiEnvironment> mpi_;
  int rank_ = 0;
  int ranks_ = 1;
};

// "carillon: error: MESSAGE" and its details as lines that are safe to print; `rank` ("[rank 1]") ends the first.
std::string error_text(const std::string& message, const std::string& rank);

}  // namespace carillon
