// Handles requests to stop: SIGUSR1, SIGUSR2 (Slurm's warning before the time limit; mpirun forwards both), SIGTERM,
// SIGXCPU (the soft limit on processor time; Grid Engine sends it as a warning), and SIGHUP (the terminal has closed)
// unless it is already ignored, as under nohup. Handlers are installed at the start of main(), so no signal is lost
// during start-up. The effect depends on what the process is doing:
//   preparing   starting, reading data, loading a model, running a sweep's points: everything done so far is kept, or
//               repeated by the same command. The flag is set (runtime/stop_request.h); a process that has not checked
//               it 1.5 s later is made to exit with 85.
//   training    the flag is set; the step is finished, a checkpoint written, and then the run leaves with 85.
//   default     the signal's own action, behind the removal of half-written files: commands that have nothing to stop
//               for. So too SIGINT in all modes.
// A launcher often signals a process and its group: what comes within a second of the first is the same request. A
// later one ends the process at once with 128 + its number.
#pragma once

namespace carillon {

enum class StopMode { kPreparing, kTraining, kDefault };

// Installs the handlers, in mode kPreparing. Also ignores SIGPIPE and SIGXFSZ, which a closed reader or a file-size
// limit would send to kill the process; the write fails instead.
void catch_signals();

// Takes effect immediately. kDefault with a request already pending ends the process by that signal.
void set_stop_mode(StopMode mode);

}  // namespace carillon
