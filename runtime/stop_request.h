// Whether somebody asked the process to stop (a signal: launch/session/signals.h). Long work that may be thrown away
// asks between its pieces.
#pragma once

namespace carillon {

bool stop_requested() noexcept;
void request_stop(bool wanted = true) noexcept;  // may be called in a signal handler

// Throws Error with code 85 when a stop was asked for: "stopped by a signal while DOING, nothing is lost, …". Only for
// work that the same command does again. Under several ranks only inside agree(), and not between its collectives.
void stop_point(const char* doing);

}  // namespace carillon
