// Imitates a device whose memory the host cannot access: runs the ops of another backend on pages that are protected
// (mprotect) whenever no op runs. Host code that reads or writes device memory gets a segmentation fault at that line.
// Passing host memory to an op, passing device memory as the host's, and uploading a tensor with gaps throw
// InternalErrors that name the op. Each instance has its own memory, so ranks may be threads.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace carillon::testing {

std::unique_ptr<Backend> make_isolated_backend(std::unique_ptr<Backend> inner);

// Whether ranks that are threads share CUDA devices: CARILLON_TEST_SHARED_DEVICE=1.
bool devices_are_shared();

// Like make_backend, but also accepts the devices "isolated" (the reference inside) and "isolated-cpu".
std::unique_ptr<Backend> make_test_backend(BackendOptions options);

}  // namespace carillon::testing
