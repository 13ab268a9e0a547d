// Where in the program the main thread is, asked from another thread: whether it is inside the MPI library while it
// says that it waits there. A signal makes it note its program counter; nothing else of it is touched.
#pragma once

#include "runtime/progress.h"

namespace carillon {

// Installs the signal's handler. By the thread that is to be sampled.
void prepare_samples();
// One sample, counted in the record (samples, samples_in_mpi). By any other thread. Where the processor is not known to
// us nothing is counted.
void take_sample(ProgressRecord& record);

}  // namespace carillon
