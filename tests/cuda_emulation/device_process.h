// Starting and watching the process that is the devices.
#pragma once

#include "host_state.h"

namespace carillon_emulation {

// Forks the device process (or starts the thread). `state` has its regions and options.
void start_device_process(HostState& state);
// Ends it and waits for its end.
void end_device_process(HostState& state);
// Whether it ended without saying why; then its failure is noted in the shared state.
bool device_process_lost(HostState& state);
// From now on a touch of device memory by this process is explained before the program ends.
void explain_host_faults();

}  // namespace carillon_emulation
