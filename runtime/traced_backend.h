// A backend that hands every op on to another and records it as a span (trace.h), with the operations it takes: what
// `--profile` and `runtime.trace` look through. Results are the other's, bit for bit. On a device each op is waited
// for, so that times are of ops and nothing overlaps: a traced run is slower than it need be.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace carillon {

std::unique_ptr<Backend> make_traced_backend(std::unique_ptr<Backend> backend);

}  // namespace carillon
