// Standard input, output and error, which may be closed (a daemon), full, or without a reader when a program starts.
#pragma once

#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

// Opens descriptors 0 to 2 if they are closed, so that no file of ours gets their numbers and receives lines meant for
// the user. After that, writes to a closed standard output fail, and writes to a closed standard error are discarded.
void reserve_standard_descriptors();

// Writes to standard error, in one write if the system allows. Never fails: a reader that has gone or a full disk
// behind the log must not end the program's work.
void write_to_screen(std::string_view text);

// Flushes standard output and asks the system whether everything was written. Fails with error 74 if anything has been
// lost since the program started. Called once at the end of every command.
void finish_standard_output();

// Returns `error`, or one that names standard output if that is what could not be written: fmt's exception does not say
// where.
Error naming_standard_output(const Error& error);

}  // namespace carillon
