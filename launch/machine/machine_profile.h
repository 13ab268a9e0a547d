// What a machine reaches: the figures `carillon plan` computes with. `carillon bench` measures them here and writes
// them as JSON; profiles of GPUs nobody has at hand (h100-sxm, a100, b200) are built in, from their makers' figures and
// the efficiencies of published kernels.
//
// Rates are what one rank reaches with its own threads while its neighbours work too, not a processor's peak. A rate of
// 0 was not measured: the link between nodes on one node, the host's link on a CPU.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/dtype.h"

namespace carillon {

// A matrix product [rows, inner] · [inner, columns] as it was measured. FLOP: 2 · rows · inner · columns.
struct ProductRate {
  int64_t rows = 0, inner = 0, columns = 0;
  double flops_per_second = 0;
};

// Causal attention over `length` tokens, as it was measured. Useful FLOP for a query head: 2·S²·HD forward, 5·S²·HD
// backward (its products, the recomputed scores not counted as work twice).
struct AttentionRate {
  int64_t head_dim = 0, length = 0;
  double forward_flops_per_second = 0, backward_flops_per_second = 0;
  std::string engine = {};  // on a device that has several: "native", "cudnn"; "" where there is one, or nobody said
};

struct Link {
  double bytes_per_second = 0;  // one direction, both directions busy
  double latency_seconds = 0;
};

// What one kind of message between ranks takes, by its size; what a group's ranks do at the same time.
struct MessageTimes {
  std::string operation;  // "shift": to the next rank of a ring; "all_reduce" of float32; "all_gather"
  std::string group;      // "node": the ranks of a node; "across": one of each node; "world": all
  int ranks = 0;
  // Smallest size first. Bytes: of the message; of the tensor reduced; of all that is gathered.
  std::vector<std::pair<int64_t, double>> seconds;
  Link fit;  // latency + bytes / bandwidth, least squares of relative errors
};

// Two ranks that send to each other while the others are silent.
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
  int threads = 1;                // of the rank that was measured; CPU only
  int ranks_per_node = 1;         // cores / threads, or GPUs
  int64_t memory_bytes = 0;       // of one rank: a GPU's as CUDA counts it, or the node's divided by its ranks
  int64_t host_memory_bytes = 0;  // of a node
  // Taken by a rank beside its tensors: libraries, MPI; on a GPU what is taken of its memory: context, kernels, NCCL.
  int64_t library_bytes = 0;
  int library_ranks = 1;  // of the ring whose communicators are in it
  std::map<DType, std::vector<ProductRate>> products;
  std::map<DType, std::vector<AttentionRate>> attention;
  double memory_bytes_per_second = 0;     // reading and writing together, streams longer than the caches
  double op_seconds = 0;                  // what an op costs that has nothing to do
  Link within_node, between_nodes, host;  // between ranks of a node; of different nodes; device and host (0: the same)
  double disk_write_bytes_per_second = 0, disk_read_bytes_per_second = 0;  // of a node, synchronised
  // A device's most by its maker; 0 or missing: not known. A profile's file also says which share of it each rate is.
  std::map<DType, double> peak_flops_per_second;
  double peak_memory_bytes_per_second = 0;
  std::string peak_source;  // "data sheet of …"
  // Beside what plan computes with. Page-locked memory and a device's, each way alone; `host` is of both at once.
  double to_device_bytes_per_second = 0, to_host_bytes_per_second = 0;
  std::vector<MessageTimes> messages;
  std::vector<PairLink> pairs;
  // Built-in profiles only, in no file: which shares of the maker's figures the rates above are.
  std::vector<std::string> assumptions;

  // By nearest measured shape (logarithms of the dims); 0 when nothing of this type was measured.
  double product_rate(DType dtype, int64_t rows, int64_t inner, int64_t columns) const;
  // Of that engine, or of any where it was not measured.
  double attention_rate(DType dtype, int64_t head_dim, int64_t length, bool backward,
                        const std::string& engine = "") const;
  bool has_attention_of(DType dtype, const std::string& engine) const;
  // It was measured by that name: the machine has it, and runtime.attention: auto takes cudnn there.
  bool runs_engine(DType dtype, const std::string& engine) const;
};

// "this" (or a path): the file `carillon bench` wrote; else a built-in name. Errors 64 (unknown name, listing those
// there are), 65 (not such a file), 66 (no file: run `carillon bench`).
MachineProfile load_machine_profile(const std::string& name_or_path);
// The file's folder is made if it is not there. Errors 73, 74.
void write_machine_profile(const MachineProfile& profile, const std::string& path);
std::string machine_profile_json(const MachineProfile& profile);  // what that file holds
// Back from it; `path` is for messages. Error 65 naming the field.
MachineProfile parse_machine_profile(const std::string& text, const std::string& path);

std::vector<std::string> built_in_profiles();
MachineProfile built_in_profile(const std::string& name);  // name: one of built_in_profiles()

// Where `carillon bench` leaves the profile called "this": $CARILLON_PROFILE, else ~/.config/carillon/profile.json.
std::string default_profile_path();

}  // namespace carillon
