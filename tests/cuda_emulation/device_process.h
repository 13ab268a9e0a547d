// Starts and watches the process that emulates the devices.
#pragma once

#include "host_state.h"

namespace carillon_emulation {

// Forks the device process (or starts the thread). `state` must have its regions and options.
void start_device_process(HostState& state);
// Ends it and waits for its end.
void end_device_process(HostState& state);
// Whether the device process has ended; if it left no message, records its failure in the shared state.
bool device_process_lost(HostState& state);
// From now on, prints an explanation if this process accesses device memory, before the program ends.
void explain_host_faults();

}  // namespace carillon_emulation
