// How long a step of a planned run takes on a machine: the work of work_plan.h by the rates of a MachineProfile.
//
// What is assumed: one document over the whole sequence, every rank as fast as the profile's, steps of the ring in
// lockstep. On a GPU a hop travels behind the attention of its step; on a CPU the same cores move it, so it always
// costs. The same holds of exchanges over tensor ranks and the products beside them: those after a gather, those before
// a scatter, chunk by chunk; in the backward pass also those by weights. On a GPU the reduction of a layer's gradients
// runs behind the next layer's backward pass, up to that layer's first exchange with other ranks (exchanges take
// turns): all of its products and attention where there are data ranks only, with a ring the products before it and
// what the first hop leaves of the ring's first step, with tensor ranks nothing. Copies to and from the host run beside
// a layer's products and attention, both directions at once; what they take longer is exposed. Those of the optimizer's
// state have nothing beside them.
#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "launch/machine/machine_profile.h"
#include "launch/plan/planned_run.h"
#include "launch/plan/work_plan.h"

namespace carillon {

// Machines to plan for: a profile, and how many of them.
struct PlannedMachine {
  MachineProfile profile;
  int64_t nodes = 1;
  int64_t ranks_per_node = 1;
  int threads = 1;  // of a rank, CPU only

  int64_t ranks() const { return nodes * ranks_per_node; }
  // Host memory a rank's share of its node may take (0.8 of it: page-locked memory is not to be had whole); no limit
  // where the profile names none, and on a CPU, whose memory is counted as its own.
  int64_t usable_host_bytes() const {
    return profile.device == "cpu" || profile.host_memory_bytes == 0
               ? std::numeric_limits<int64_t>::max()
               : profile.host_memory_bytes / 10 * 8 / std::min(ranks_per_node, ranks());
  }
  // What a plan may fill: the rest is left to the allocator's fragments and to what no formula knows.
  int64_t usable_bytes() const { return profile.memory_bytes / 100 * 92; }
  bool fits(int64_t bytes, int64_t host_bytes) const {
    return (profile.memory_bytes == 0 || bytes <= usable_bytes()) && host_bytes <= usable_host_bytes();
  }
  bool crosses_nodes(int64_t span) const { return span > ranks_per_node; }
  // Between ranks of which the first and the last are `span - 1` apart. Where the link between nodes was not measured
  // (a profile of one node), the one inside a node.
  const Link& link(int64_t span) const {
    return crosses_nodes(span) && profile.between_nodes.bytes_per_second > 0 ? profile.between_nodes
                                                                             : profile.within_node;
  }
};

// The ring of a layer, one pass, in seconds.
struct RingTime {
  double compute = 0;          // attention of all steps
  double hops = 0;             // time the hops take by themselves
  double exposed = 0;          // what they add to the compute
  double uncovered = 0;        // hops longer than their step's attention, wherever they run; 0: the ring can be hidden
  double room = 0;             // what the first step's hop leaves of its attention
  int64_t tokens_to_hide = 0;  // tokens a rank needs for that: 2·η·F/(g·β·B) forward, and the link's latency
  // Of a flat ring over several nodes, the same for blocks that go to the next node on all adapters in W_in steps'
  // time, as those of two levels. 0: no such ring.
  int64_t tokens_to_hide_two_level = 0;
};

// The gathers and scatters of a layer over tensor ranks, one micro-step with what it does again, in seconds.
struct TensorTime {
  int64_t chunks = 1;
  double exchanges = 0;  // by themselves
  double exposed = 0;    // what they add to the products
};

struct StepTime {
  // Seconds of a step; they add up to `seconds`.
  double linear_forward = 0, linear_backward = 0, linear_redone = 0, loss = 0;
  double attention_forward = 0, attention_backward = 0, attention_redone = 0;
  double elementwise = 0;  // ops bound by memory, and what an op costs by itself
  double ring = 0;         // hops not hidden
  double tensor = 0;       // collectives over tensor ranks, not hidden
  double offload = 0;      // copies to and from the host, not hidden
  double gradients = 0;    // reduction over data · context ranks, not hidden, and the new weights back
  double optimizer = 0;
  double seconds = 0;

  RingTime forward_ring, backward_ring;  // one layer, one micro-step
  TensorTime tensor_layer;
  double offload_copy = 0;                           // of one layer's checkpoints, one way
  double offload_forward = 0, offload_backward = 0;  // products and attention of a layer, which hide it
  double reduction = 0;                              // of gradients, by itself, all of a step
  double reduction_exposed = 0;                      // of that, what is in `gradients`
  double reduction_layer = 0;                        // of one layer's
  double reduction_room = 0;                         // in a layer's backward pass, for the reduction of another's
  double useful_flops = 0;                           // of all ranks in a step
  double hardware_flops = 0;                         // the same with what is computed again
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

// Chunks of the exchanges over tensor ranks.
int64_t planned_tensor_chunks(const PlannedRun& run, const PlannedMachine& machine);

// Error 64 when the layout cannot be; 65 when the profile has no product rate at all.
StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine);
StepTime plan_step(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                   const WorkPlan& work);

}  // namespace carillon
