// Files that are being written under a temporary name, for whoever ends the process: a command that is stopped while it
// writes leaves none of them behind. What a killed process (SIGKILL, a power cut) leaves is another matter.
//
// make_temporary() (posix_file.h) remembers what it makes; who renames or removes it forgets it. A name that is renamed
// or gone meanwhile does no harm, since temporary names are nobody else's.
#pragma once

#include <string>

namespace carillon {

void remember_temporary(const std::string& path);
void forget_temporary(const std::string& path);

// Unlinks what is remembered; of a folder, the files in it and the folder. Only in the process that remembered them,
// not in one forked from it. May be called in a signal handler.
void remove_temporaries() noexcept;

}  // namespace carillon
