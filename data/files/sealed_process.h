// Drops every right that this process does not need any more. From the call on it can only use the files it has open,
// allocate memory and exit; the kernel refuses (EPERM) to open files or sockets or to start programs. Uses seccomp if
// the kernel has it. Otherwise nothing happens, and only the limits set before protect us.
#pragma once

namespace carillon {

void seal_process();

}  // namespace carillon
