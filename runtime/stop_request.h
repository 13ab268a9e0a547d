// Whether the process has been asked to stop by a signal (launch/session/signals.h). Long operations whose work may be
// discarded poll this between their pieces.
#pragma once

namespace carillon {

bool stop_requested() noexcept;
void request_stop(bool wanted = true) noexcept;  // may be called from a signal handler

// Throws Error with code 85 if a stop was requested: "stopped by a signal while DOING, nothing is lost, …". Call it
// only in work that running the same command again repeats. With several ranks, call it only inside agree(), and not
// between collectives there.
void throw_if_stop_requested(const char* doing);

}  // namespace carillon
