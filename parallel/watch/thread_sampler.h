// Samples from another thread where the main thread is: whether it is inside the MPI library while it claims to wait
// there. A signal makes it store its program counter; nothing else of it is touched.
#pragma once

#include "runtime/progress.h"

namespace carillon {

// Installs the signal's handler. Must be called by the thread that is to be sampled.
void prepare_samples();
// Takes one sample and counts it in the record (samples, samples_in_mpi). Called by any other thread. Counts nothing on
// processor architectures it does not support.
void take_sample(ProgressRecord& record);

}  // namespace carillon
