// The time of a planned run's step on a machine: the record of a counted step (step_record.h) with the rates of a
// MachineProfile (step_clock.h). The code that trains determines what the step does, in which order, and where it
// waits.
//
// Assumptions: one document fills the sequence, every rank is as fast as the profile's, and the recorded rank
// represents all (recorded_rank), so a ring runs in lockstep. On a GPU an exchange overlaps with the products and
// attention between its start and its wait, exchanges run one after the other, and copies to and from the host overlap
// with both, in both directions at once. So the attention of a ring step hides its hop, the products of other chunks
// hide a chunk of an exchange over tensor ranks, and the next layer's backward pass hides the reduction of a layer's
// gradients, up to that layer's first exchange with other ranks. On a CPU the same cores move the data, so an exchange
// always costs time.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/plan/planned_machine.h"
#include "launch/plan/planned_run.h"
#include "launch/plan/step_record.h"

namespace carillon {

// Seconds of the ring in one pass of one attention: the mean over the layers.
struct RingTime {
  double compute = 0;    // attention of all steps
  double hops = 0;       // time of the hops without overlap
  double exposed = 0;    // time they add to the compute
  double uncovered = 0;  // time of hops beyond their step's attention, wherever they run; 0: the ring can be hidden
  double bytes = 0;      // sent or received by the recorded rank, whichever is more for each hop
  int64_t tokens_to_hide = 0;  // tokens per rank needed for that: 2·η·F/(g·β·B) forward, and the link's latency
  // For a flat ring over several nodes, the same with two levels, where blocks go to the next node over all adapters in
  // the time of W_in steps. 0: not such a ring.
  int64_t tokens_to_hide_two_level = 0;
};

// Seconds of gathers and scatters over tensor ranks, per micro-step.
struct TensorTime {
  int64_t chunks = 1;
  double exchanges = 0;  // without overlap
  double exposed = 0;    // time they add to the products
};

// Copies to and from the host, per step.
struct HostCopyTime {
  double checkpoint_bytes = 0, state_bytes = 0;  // one way: activations; masters and moments
  double checkpoints = 0;                        // seconds one way, without overlap
  double beside = 0;                             // products and attention of the step, which hide the copies
  double checkpoints_exposed = 0;                // time added by both ways
};

struct StepTime {
  // Seconds of a step; the sum is `seconds`.
  double linear_forward = 0, linear_backward = 0, linear_recomputed = 0, loss = 0;
  double attention_forward = 0, attention_backward = 0, attention_recomputed = 0;
  std::string forward_engine, backward_engine;  // of attention on a device: "native", "cudnn", "cudnn and native"
  double elementwise = 0;                       // memory-bound ops, and the fixed cost of every op
  double ring = 0;                              // hops not hidden
  double tensor = 0;                            // collectives over tensor ranks, not hidden
  double offload = 0;                           // copies to and from the host, not hidden
  double gradients = 0;  // reduction over data · context ranks, and returning the new weights; not hidden
  double optimizer = 0;
  double seconds = 0;

  RingTime forward_ring, backward_ring;
  TensorTime tensor_exchanges;
  HostCopyTime host_copies;
  double reduction = 0;          // of gradients, whole step, without overlap
  double reduction_exposed = 0;  // the part of it in `gradients`
  double useful_flops = 0;       // of all ranks per step
  double hardware_flops = 0;     // the same including recomputation
  double tokens_per_second = 0;
  double tokens_per_day = 0;
  double product_rate = 0;               // FLOP/s of the fastest measured product, one rank
  double product_rate_fraction = 0;      // useful FLOP per rank and second over that rate
  double peak_rate = 0;                  // the vendor's FLOP/s; 0: not known
  double peak_fraction = 0;              // MFU: useful FLOP per rank and second over that
  std::string limiting;                  // the largest term
  std::vector<std::string> assumptions;  // figures the profile did not have

  std::vector<std::pair<std::string, double>> terms() const;
};

// Throws error 64 if the layout is impossible, 65 if the profile has no product rate at all.
StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine);
StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                   const StepRecord& record);

}  // namespace carillon
