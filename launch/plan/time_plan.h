// How long a step of a planned run takes on a machine: the record of a counted step (step_record.h) by the rates of a
// MachineProfile (step_clock.h). What the step does, in which order, and what it waits for when, is what the code that
// trains does.
//
// What is assumed: one document over the whole sequence, every rank as fast as the profile's, and the rank that was
// recorded for all of them (recorded_rank): steps of a ring in lockstep. On a GPU an exchange goes on beside the
// products and attention between its start and its wait, exchanges take turns, and copies to and from the host run
// beside both, both directions at once; so a hop travels behind the attention of its step, chunks of an exchange over
// tensor ranks behind the products of the others, and the reduction of a layer's gradients behind the next layer's
// backward pass, up to that layer's first exchange with other ranks. On a CPU the same cores move the data, so it
// always costs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/plan/planned_machine.h"
#include "launch/plan/planned_run.h"
#include "launch/plan/step_record.h"

namespace carillon {

// The ring of one attention, one pass, in seconds: the mean over the layers.
struct RingTime {
  double compute = 0;          // attention of all steps
  double hops = 0;             // time the hops take by themselves
  double exposed = 0;          // what they add to the compute
  double uncovered = 0;        // hops longer than their step's attention, wherever they run; 0: the ring can be hidden
  double bytes = 0;            // what the recorded rank sends or receives, whichever is more of each hop
  int64_t tokens_to_hide = 0;  // tokens a rank needs for that: 2·η·F/(g·β·B) forward, and the link's latency
  // Of a flat ring over several nodes, the same for blocks that go to the next node on all adapters in W_in steps'
  // time, as those of two levels. 0: no such ring.
  int64_t tokens_to_hide_two_level = 0;
};

// Gathers and scatters over tensor ranks, of one micro-step, in seconds.
struct TensorTime {
  int64_t chunks = 1;
  double exchanges = 0;  // by themselves
  double exposed = 0;    // what they add to the products
};

// Copies to and from the host, of a step.
struct HostCopyTime {
  double checkpoint_bytes = 0, state_bytes = 0;  // one way: activations; masters and moments
  double checkpoints = 0;                        // seconds one way, by themselves
  double beside = 0;                             // products and attention of the step, which hide them
  double checkpoints_exposed = 0;                // what both ways add
};

struct StepTime {
  // Seconds of a step; they add up to `seconds`.
  double linear_forward = 0, linear_backward = 0, linear_recomputed = 0, loss = 0;
  double attention_forward = 0, attention_backward = 0, attention_recomputed = 0;
  std::string forward_engine, backward_engine;  // of attention on a device: "native", "cudnn", "cudnn and native"
  double elementwise = 0;                       // ops bound by memory, and what an op costs by itself
  double ring = 0;                              // hops not hidden
  double tensor = 0;                            // collectives over tensor ranks, not hidden
  double offload = 0;                           // copies to and from the host, not hidden
  double gradients = 0;  // reduction over data · context ranks, not hidden, and the new weights back
  double optimizer = 0;
  double seconds = 0;

  RingTime forward_ring, backward_ring;
  TensorTime tensor_exchanges;
  HostCopyTime host_copies;
  double reduction = 0;          // of gradients, by itself, all of a step
  double reduction_exposed = 0;  // of that, what is in `gradients`
  double useful_flops = 0;       // of all ranks in a step
  double hardware_flops = 0;     // the same with what is computed again
  double tokens_per_second = 0;
  double tokens_per_day = 0;
  double product_rate = 0;               // FLOP/s of the fastest product measured, one rank
  double product_rate_fraction = 0;      // useful FLOP of a rank and second, of that rate
  double peak_rate = 0;                  // the maker's FLOP/s; 0: not known
  double peak_fraction = 0;              // MFU: useful FLOP of a rank and second, of that
  std::string limiting;                  // the largest term
  std::vector<std::string> assumptions;  // figures the profile did not have

  std::vector<std::pair<std::string, double>> terms() const;
};

// Error 64 when the layout cannot be; 65 when the profile has no product rate at all.
StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine);
StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                   const StepRecord& record);

}  // namespace carillon
