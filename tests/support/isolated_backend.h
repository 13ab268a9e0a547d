// A device whose memory the host cannot read, without a device: another backend's ops on pages that are closed
// (mprotect) whenever no op runs. A read or write of device memory by host code is a segmentation fault at the line
// that makes it; host memory handed to an op, device memory taken for the host's, and an upload of a tensor with gaps
// are InternalErrors that name the op. Each instance has its own memory, so ranks may be threads.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace carillon::testing {

std::unique_ptr<Backend> make_isolated_backend(std::unique_ptr<Backend> inner);

// CARILLON_TEST_SHARED_DEVICE=1: ranks that are threads share the CUDA devices there are.
bool devices_are_shared();

// make_backend, which also knows the devices "isolated" (the reference inside) and "isolated-cpu".
std::unique_ptr<Backend> make_test_backend(BackendOptions options);

}  // namespace carillon::testing
