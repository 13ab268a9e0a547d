// Being asked to stop: SIGUSR1, SIGUSR2 (Slurm's warning before the limit, mpirun passes both on), SIGTERM, and SIGHUP
// (the terminal has gone) unless it is ignored already, as under nohup. Caught from the first line of main() on, so
// that none is lost while the program starts. What one does depends on what the process is at:
//   preparing   starting, reading data, loading a model, a sweep's points: everything done so far is kept or is done
//               again by the same command. The flag is set (runtime/stop_request.h); whoever has not come by it 1.5 s
//               later is made to leave with 85.
//   training    the flag is set; the step is finished, a checkpoint written, and then the run leaves with 85.
//   default     the signal's own action, behind the removal of half-written files: commands that have nothing to stop
//               for. So too SIGINT in all modes.
// A launcher often signals a process and its group: what comes within a second of the first is the same request. A
// later one ends the process at once with 128 + its number.
#pragma once

namespace carillon {

enum class StopMode { kPreparing, kTraining, kDefault };

// The handlers, with kPreparing; and what a closed reader or a file-size limit would kill the process by: SIGPIPE and
// SIGXFSZ are ignored, the write that met them fails instead.
void catch_signals();

// From now on. kDefault with a request already there ends the process by that signal.
void set_stop_mode(StopMode mode);

}  // namespace carillon
