// Standard input, output and error as a program finds them: perhaps closed (a daemon), full, or without a reader.
#pragma once

#include <string>
#include <string_view>

namespace carillon {

// Descriptors 0 to 2 that were closed are taken, so that no file of ours gets their numbers and lines meant for a
// person end in it. What is written to a standard output that was closed fails; a closed standard error swallows.
void reserve_standard_descriptors();

// To standard error, in one write where the system allows. Never fails: a reader that went away, or a full disk behind
// the log, must not end what the program works on.
void write_to_screen(std::string_view text);

// Everything printed is on its way: flushes standard output and asks the system. Error 74 when anything was lost, at
// any time since the start. Called once at the end of every command.
void finish_standard_output();

}  // namespace carillon
