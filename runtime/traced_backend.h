// A backend that forwards every op to another one and records it as a span (trace.h) with its floating-point
// operations; `--profile` and `runtime.trace` use it. Results are the same bit for bit. On a device it waits for each
// op, so that a span is the time of one op; nothing overlaps, and a traced run is slower than an untraced one.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace carillon {

std::unique_ptr<Backend> make_traced_backend(std::unique_ptr<Backend> backend);

}  // namespace carillon
