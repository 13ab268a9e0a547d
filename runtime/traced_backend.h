// A backend that hands every op on to another and records it as a span (trace.h), with the operations it takes: what
// `--profile` and `runtime.trace` look through. Results are the other's, bit for bit.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace carillon {

std::unique_ptr<Backend> make_traced_backend(std::unique_ptr<Backend> backend);

}  // namespace carillon
