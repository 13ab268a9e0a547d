// The files that this process is writing under a temporary name. A signal handler removes them before it ends the
// process, so that a stopped command leaves none behind. A killed process (SIGKILL, a power cut) does leave them.
//
// make_temporary() (posix_file.h) remembers every file it creates; whoever renames or removes the file must forget it.
// A remembered name that no longer exists is harmless, because no other program uses such a name.
#pragma once

#include <string>

namespace carillon {

void remember_temporary(const std::string& path);
void forget_temporary(const std::string& path);

// Unlinks all remembered files; removes a remembered folder with the files in it. Does nothing in a process that was
// forked from the one that remembered them. Safe to call in a signal handler.
void remove_temporaries() noexcept;

}  // namespace carillon
