// Runs the record of a step (step_record.h) against a machine: the seconds of its products, attention and exchanges,
// and which part of the exchanges its compute does not hide.
//
// On a GPU an exchange overlaps with the products and attention enqueued between its start and its wait. All exchanges
// of a rank run one after the other, in the order of their calls. Copies to and from the host overlap with them, each
// direction separately. Memory-bound ops hide nothing, because they need the same resources as the exchange. On a CPU
// the same cores move the data, so every exchange costs its full time.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "launch/plan/planned_machine.h"
#include "launch/plan/step_record.h"
#include "runtime/dtype.h"

namespace carillon {

// The profile's rates for one compute type. Adds an assumption for each rate that is missing.
class Rates {
 public:
  // Throws error 65 if the profile has no product rate at all. `fused`: cuDNN's attention is requested.
  Rates(const MachineProfile& profile, DType compute, bool fused, std::vector<std::string>& assumptions);
  double product(int64_t rows, int64_t inner, int64_t columns) const;
  double attention(int64_t head_dim, int64_t length, bool backward, bool fused) const;
  double best_product() const;

 private:
  const MachineProfile& profile_;
  DType product_type_, attention_type_;
  bool has_attention_ = false;
};

// Seconds of one or more micro-steps.
struct StepSeconds {
  using ByPart = std::array<double, kStepParts>;
  ByPart products{}, attention{}, flop{};
  // By purpose and by the part of the step in which they began: time without overlap, bytes, and time not hidden.
  std::array<ByPart, kExchanges> exchange{}, bytes{}, exposed{};
  ByPart uncovered{};  // time of a ring's hops in excess of the simultaneous attention, by pass, wherever they run
  ByPart passes{};     // of attention
  double moved_bytes = 0, calls = 0, update_moved_bytes = 0, update_calls = 0;

  void add(const StepSeconds& other, double times = 1);
  static double sum(const ByPart& parts);
  static double all(const std::array<ByPart, kExchanges>& table, Exchange purpose) {
    return sum(table[static_cast<size_t>(purpose)]);
  }
};

// Simulates micro-steps one after another.
class StepClock {
 public:
  StepClock(const PlannedMachine& machine, const Rates& rates) : machine_(machine), rates_(rates) {}
  StepSeconds run(const MicroStepRecord& record);

 private:
  struct Transfer {
    double seconds, end;
    Exchange exchange;
    StepPart part;
  };
  void start(const StepEvent& event, StepSeconds& sums);
  void wait(const StepEvent& event, StepSeconds& sums);
  double& free_at(Exchange exchange);

  const PlannedMachine& machine_;
  const Rates& rates_;
  double now_ = 0;  // of the device's compute
  double network_free_ = 0, to_host_free_ = 0, to_device_free_ = 0;
  std::map<int64_t, Transfer> under_way_;
  // Seconds since the last wait of a ring: its hops, and the attention since they began.
  double ring_hops_ = 0, overlapping_attention_ = 0;
};

}  // namespace carillon
