// Timing for `carillon bench`. All ranks measure at the same moment, because a rank that runs alone has memory and
// caches to itself, unlike in a run. The slowest rank counts, because a step waits for it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"
#include "runtime/backend.h"

namespace carillon {

// A measured figure: the median of the repetitions on the slowest rank.
struct Timing {
  double seconds = 0;
  double spread = 0;        // (third quartile - first) / median, on the rank where it is largest
  int64_t repetitions = 0;  // of this rank, without the warm-up
};

double now_seconds();                               // of a steady clock
double largest(Communicator& world, double value);  // over ranks

// Summarises the `seconds` of each repetition, given in any order. Collective.
Timing summarise(Communicator& world, std::vector<double> seconds);

// Runs `body` once to warm up, then repeatedly for about `seconds`. If one run takes longer than that, it is the
// measurement; on a device a second run is. On a device a repetition enqueues many bodies, waits for them once and
// divides the time by their number: host calls and waiting are not measured while the device is busy. Collective.
// `body` must not communicate, because each rank repeats it as often as it can.
Timing time_alone(Backend& backend, Communicator& world, double seconds, const std::function<void()>& body);

// The same for a body in which ranks of `world` communicate: all ranks repeat it equally often. Ranks that do not take
// part pass a body that does nothing.
Timing time_together(Backend& backend, Communicator& world, double seconds, const std::function<void()>& body);

// Measures cases in ascending order of cost (FLOP) for about `seconds` in total. `measure(i, share)` should take
// `share` seconds and returns the time of one execution. A case is left out, with all later ones, if its single
// execution would exceed the remaining time, estimated from the rate of the previous case; the first case is never left
// out. Collective. Returns the number of cases measured.
size_t measure_in_order(Communicator& world, double seconds, const std::vector<double>& costs,
                        const std::function<double(size_t, double)>& measure);

}  // namespace carillon
