// How things are timed by `carillon bench`: on all ranks at the same moment, because a rank alone on a machine has
// memory and caches to itself that it will not have in a run. The slowest rank counts: a step waits for it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"
#include "runtime/backend.h"

namespace carillon {

// One figure as it was seen: the median of the repetitions on the slowest rank.
struct Timing {
  double seconds = 0;
  double spread = 0;        // (third quartile - first) / median, of the rank where it is largest
  int64_t repetitions = 0;  // of this rank, without the first
};

double now_seconds();                               // of a steady clock
double largest(Communicator& world, double value);  // over ranks

// `seconds` of each repetition, in any order; `seconds` is sorted. Collective.
Timing summarise(Communicator& world, std::vector<double> seconds);

// Runs `body` once to warm up, then again and again for about `seconds`. Where it alone takes longer than that, it is
// the measurement; on a device a second one is. There a repetition is many bodies put on the queue together and waited
// for once, its time divided by their number: neither the host's calls nor its waiting are measured while the device
// has something to do. Collective; `body` itself must not communicate: ranks repeat it as often as they can.
Timing time_alone(Backend& backend, Communicator& world, double seconds, const std::function<void()>& body);

// The same for a body in which ranks of `world` communicate: all repeat it equally often. Ranks that have no part in it
// give a body that does nothing.
Timing time_together(Backend& backend, Communicator& world, double seconds, const std::function<void()>& body);

// Measures cases in the order of their cost (FLOP, ascending) for about `seconds` altogether. `measure(i, share)` is
// asked to take `share` seconds and returns what one execution took. A case whose single execution would go beyond what
// is left, judged by the rate of the one before it, and all after it are left out; the first never is. Collective.
// Returns how many were measured.
size_t measure_in_order(Communicator& world, double seconds, const std::vector<double>& costs,
                        const std::function<double(size_t, double)>& measure);

}  // namespace carillon
