// What a machine achieves: the figures from which `carillon plan` computes. `carillon bench` measures them on this
// machine and writes them as JSON. Profiles of GPUs that are not at hand (h100-sxm, a100, b200) are built in, from the
// vendors' figures and the efficiencies of published kernels.
//
// Rates are what one rank achieves with its own threads while its neighbours work too, not a processor's peak. A rate
// of 0 means not measured, such as the link between nodes on a single node or the host's link on a CPU.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/dtype.h"

namespace carillon {

// A measured matrix product [rows, inner] · [inner, columns]. FLOP: 2 · rows · inner · columns.
struct ProductRate {
  int64_t rows = 0, inner = 0, columns = 0;
  double flops_per_second = 0;
};

// Measured causal attention over `length` tokens. Useful FLOP per query head: 2·S²·HD forward, 5·S²·HD backward (its
// products, with recomputed scores not counted a second time).
struct AttentionRate {
  int64_t head_dim = 0, length = 0;
  double forward_flops_per_second = 0, backward_flops_per_second = 0;
  std::string engine = {};  // on a device with several: "native", "cudnn"; "": only one, or unrecorded
};

struct Link {
  double bytes_per_second = 0;  // in one direction while both are busy
  double latency_seconds = 0;
};

// Times of one kind of message between ranks, by size; all ranks of a group communicate at the same time.
struct MessageTimes {
  std::string operation;  // "shift": to the next rank of a ring; "all_reduce" of float32; "all_gather"
  std::string group;      // "node": the ranks of a node; "across": one rank per node; "world": all
  int ranks = 0;
  // Smallest size first. Bytes: of the message; of the reduced tensor; of all gathered data.
  std::vector<std::pair<int64_t, double>> seconds;
  Link fit;  // latency + bytes / bandwidth, by least squares of relative errors
};

// Two ranks that send to each other while the others are idle.
struct PairLink {
  int from = 0, to = 0;
  bool between_nodes = false;
  Link link;
};

struct MachineProfile {
  std::string name;               // "this", "h100-sxm", …
  std::string device = "cpu";     // cpu | cuda
  std::string processor;          // "AMD EPYC …", "NVIDIA H100 SXM 80GB"
  std::string instruction_set;    // CPU only
  int threads = 1;                // of the measured rank; CPU only
  int ranks_per_node = 1;         // cores / threads, or GPUs
  int64_t memory_bytes = 0;       // of one rank: a GPU's as CUDA reports it, or the node's divided by its ranks
  int64_t host_memory_bytes = 0;  // of a node
  // Used by a rank in addition to its tensors: libraries, MPI; on a GPU its memory used by context, kernels and NCCL.
  int64_t library_bytes = 0;
  int library_ranks = 1;  // size of the ring whose communicators are included
  std::map<DType, std::vector<ProductRate>> products;
  std::map<DType, std::vector<AttentionRate>> attention;
  double memory_bytes_per_second = 0;     // reading and writing together, streams longer than the caches
  double op_seconds = 0;                  // cost of an op that has nothing to compute
  Link within_node, between_nodes, host;  // between ranks of a node; of different nodes; device and host (0: the same)
  double disk_write_bytes_per_second = 0, disk_read_bytes_per_second = 0;  // of a node, synchronised
  // The vendor's peak of a device; 0 or missing: not known. A profile's file also gives each rate as a share of it.
  std::map<DType, double> peak_flops_per_second;
  double peak_memory_bytes_per_second = 0;
  std::string peak_source;  // "data sheet of …"
  // Not used by plan. Page-locked memory and a device's, each direction alone; `host` is for both at once.
  double to_device_bytes_per_second = 0, to_host_bytes_per_second = 0;
  std::vector<MessageTimes> messages;
  std::vector<PairLink> pairs;
  // Built-in profiles only, not stored in files: the shares of the vendor's figures that the rates above assume.
  std::vector<std::string> assumptions;

  // Returns the rate of the nearest measured shape (in logarithms of the dims); 0 if nothing of this type was measured.
  double product_rate(DType dtype, int64_t rows, int64_t inner, int64_t columns) const;
  // Uses measurements of that engine, or of any if there are none.
  double attention_rate(DType dtype, int64_t head_dim, int64_t length, bool backward,
                        const std::string& engine = "") const;
  bool has_attention_of(DType dtype, const std::string& engine) const;
  // Whether the engine was measured by name: the machine has it, and runtime.attention auto uses cudnn there.
  bool runs_engine(DType dtype, const std::string& engine) const;
};

// Loads "this" or a path: the file that `carillon bench` wrote; otherwise a built-in profile. Fails with error 64
// (unknown name; lists the known ones), 65 (not a profile) or 66 (no file: run `carillon bench`).
MachineProfile load_machine_profile(const std::string& name_or_path);
// Creates the file's folder if it is missing. Errors 73, 74.
void write_machine_profile(const MachineProfile& profile, const std::string& path);
std::string machine_profile_json(const MachineProfile& profile);  // contents of that file
// Parses such a file; `path` is for messages. Fails with error 65 naming the field.
MachineProfile parse_machine_profile(const std::string& text, const std::string& path);

std::vector<std::string> built_in_profiles();
MachineProfile built_in_profile(const std::string& name);  // name: one of built_in_profiles()

// Where `carillon bench` stores the profile named "this": $CARILLON_PROFILE, or else ~/.config/carillon/profile.json.
std::string default_profile_path();

}  // namespace carillon
