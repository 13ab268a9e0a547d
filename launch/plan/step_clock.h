// A record of a step (step_record.h) on a machine: seconds of its products, attention and exchanges, and what of the
// exchanges its compute does not hide.
//
// On a GPU an exchange goes on beside the products and attention put on the queue between its start and its wait; all
// exchanges of a rank take turns, in the order of their calls, and copies to and from the host run beside them, each
// direction by itself. Ops bound by memory hide nothing: they need what the exchange needs. On a CPU the same cores
// move the data, so every exchange costs what it takes.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "launch/plan/planned_machine.h"
#include "launch/plan/step_record.h"
#include "runtime/dtype.h"

namespace carillon {

// The profile's rates of one compute type, with something said where it has none.
class Rates {
 public:
  // Error 65 when the profile has no product rate at all.
  // `fused`: cuDNN's attention is asked for.
  Rates(const MachineProfile& profile, DType compute, bool fused, std::vector<std::string>& assumptions);
  double product(int64_t rows, int64_t inner, int64_t columns) const;
  double attention(int64_t head_dim, int64_t length, bool backward, bool fused) const;
  double best_product() const;

 private:
  const MachineProfile& profile_;
  DType product_type_, attention_type_;
  bool has_attention_ = false;
};

// Of one or more micro-steps.
struct StepSeconds {
  using ByPart = std::array<double, kStepParts>;
  ByPart products{}, attention{}, flop{};
  // By what they are for and in which part of the step they began: by themselves, in bytes, and not hidden.
  std::array<ByPart, kExchanges> exchange{}, bytes{}, exposed{};
  ByPart uncovered{};  // of a ring's hops, by pass: longer than the attention beside them, wherever they run
  ByPart passes{};     // of attention
  double moved_bytes = 0, calls = 0, update_moved_bytes = 0, update_calls = 0;

  void add(const StepSeconds& other, double times = 1);
  static double sum(const ByPart& parts);
  static double all(const std::array<ByPart, kExchanges>& table, Exchange purpose) {
    return sum(table[static_cast<size_t>(purpose)]);
  }
};

// Goes through micro-steps one after another.
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
  double now_ = 0;  // of the device's arithmetic
  double network_free_ = 0, to_host_free_ = 0, to_device_free_ = 0;
  std::map<int64_t, Transfer> under_way_;
  double hop_ = 0, beside_hop_ = 0;  // of a ring, since its last wait: hops, attention since they began
};

}  // namespace carillon
