// Takes from this process what it will not need again: from the call on it can read and write what it has open, ask for
// memory and end. Opening files, sockets, other programs: refused by the kernel (EPERM). seccomp, where the kernel has
// it; elsewhere nothing happens, and the limits set before stand alone.
#pragma once

namespace carillon {

void seal_process();

}  // namespace carillon
