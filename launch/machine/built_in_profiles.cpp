// Profiles of GPUs that are not at hand, for planning. Each figure is the vendor's number times the share of it that
// kernels are expected to reach; `carillon bench` on the machine itself is always better. Peaks are those of
// runtime/cuda/loader/device_peak.cpp. The other numbers were written from memory of the documents named: check them
// before relying on them.
#include "launch/machine/machine_profile.h"
#include "runtime/check.h"
#include "runtime/cuda/loader/device_peak.h"

namespace carillon {
namespace {

constexpr double kGiga = 1e9, kTera = 1e12;
constexpr int64_t kGiB = int64_t{1} << 30;

// Shares of the peak used for planning. cuDNN's attention is assumed to reach FlashAttention-3's rate (arXiv
// 2407.08608; causal, heads of 128, 16k tokens on an H100): 620 to 650 TFLOP/s forward, 65 % of 989. The shares of
// products, of the backward pass and of the B200 are assumptions. Carillon's own (native) kernels (Gpu::own_forward,
// own_backward) use mma.sync, whose operands pass through shared memory. Its bytes per cycle limit them to 40 and 26 %
// of an H100's peak, and on a B200 to the same FLOP per multiprocessor and cycle. On an A100 the tensor cores are
// slower than that limit; its shares are those of kernels of this kind, with 7 products for 5 in the backward pass.
constexpr double kProducts = 0.65, kForward = 0.65, kBackward = 0.52;
// NVLink and InfiniBand with a ring of large messages, and HBM with a copy: also assumptions.
constexpr double kNvLink = 0.8, kInfiniBand = 0.9, kMemory = 0.9;

struct Gpu {
  const char* name;
  const char* processor;
  const char* data_sheet;            // for data_sheet_peak(): dense; float32 on the ordinary cores, no TF32
  int64_t memory_bytes;              // as CUDA reports it, slightly below the nominal size
  double nvlink, network, pcie;      // bytes/s of one GPU in one direction; pcie as reached by copies
  double own_forward, own_backward;  // shares of attention's native kernels
  bool cudnn;                        // whether cuDNN's attention is used: compute capability 9.0 and later
};

const std::vector<Gpu>& gpus() {
  static const std::vector<Gpu> table = {
      // "NVIDIA H100 Tensor Core GPU" data sheet, SXM5: NVLink 900 GB/s in both directions together. DGX H100: a 400
      // Gb/s adapter per GPU. PCIe 5.0 x16: 63 GB/s, copies from pinned memory about 55.
      {"h100-sxm", "NVIDIA H100 SXM 80GB", "H100 80GB HBM3", 79 * kGiB, 450 * kGiga, 50 * kGiga, 55 * kGiga, 0.40, 0.26,
       true},
      // "NVIDIA A100 Tensor Core GPU" data sheet, SXM4 80 GB: NVLink 600 GB/s in both directions together. DGX A100: a
      // 200 Gb/s adapter per GPU. PCIe 4.0 x16: half of 5.0.
      {"a100", "NVIDIA A100 SXM 80GB", "A100-SXM4-80GB", 79 * kGiB, 300 * kGiga, 25 * kGiga, 27 * kGiga, 0.55, 0.40,
       false},
      // "NVIDIA Blackwell Architecture Technical Brief", HGX B200 at 1000 W: NVLink 1.8 TB/s in both directions
      // together. DGX B200: a 400 Gb/s adapter per GPU, PCIe 5.0.
      {"b200", "NVIDIA B200 180GB", "B200", 178 * kGiB, 900 * kGiga, 50 * kGiga, 55 * kGiga, 0.22, 0.14, true},
  };
  return table;
}

MachineProfile profile_of(const Gpu& gpu) {
  MachineProfile profile;
  profile.name = gpu.name;
  profile.device = "cuda";
  profile.processor = gpu.processor;
  profile.ranks_per_node = 8;  // DGX and HGX of all three
  profile.memory_bytes = gpu.memory_bytes;
  profile.host_memory_bytes = 2048 * kGiB;  // DGX A100 (640 GB), H100 and B200 have at least 2 TB
  // A context with cuBLAS, cuDNN and kernel code: an allowance, not measured. NCCL's buffers are added for the groups
  // that a run opens (nccl_bytes).
  profile.library_bytes = 1 * kGiB;
  // One entry per type: it is the nearest to every shape, so small products are estimated too fast.
  const DevicePeak peaks = data_sheet_peak(gpu.data_sheet);
  profile.peak_flops_per_second = peaks.flops_per_second;
  for (const auto& [dtype, peak] : peaks.flops_per_second) {
    profile.products[dtype] = {{8192, 4096, 4096, kProducts * peak}};
    profile.attention[dtype] = {{128, 16384, gpu.own_forward * peak, gpu.own_backward * peak, "native"}};
    if (gpu.cudnn && dtype == DType::kBFloat16)
      profile.attention[dtype].push_back({128, 16384, kForward * peak, kBackward * peak, "cudnn"});
  }
  profile.memory_bytes_per_second = kMemory * peaks.memory_bytes_per_second;
  profile.op_seconds = 5e-6;  // launching a small kernel and its turn in the stream; an assumption
  // The first hop of an exchange takes 10 to 20 µs: 10 within a node, 20 across the network.
  profile.within_node = {kNvLink * gpu.nvlink, 10e-6};
  profile.between_nodes = {kInfiniBand * gpu.network, 20e-6};
  profile.host = {gpu.pcie, 10e-6};
  // A shared file system gives a node about this much; an assumption, as sites differ by a factor of ten.
  profile.disk_write_bytes_per_second = 2 * kGiga;
  profile.disk_read_bytes_per_second = 4 * kGiga;
  profile.assumptions = {
      fmt::format(
          "products reach {:.0f} % of the peak ({:.1f} TFLOP/s bfloat16, {:.1f} float32), attention by the native "
          "kernels {:.0f} % forward and {:.0f} % backward{}",
          100 * kProducts, peaks.flops_per_second.at(DType::kBFloat16) / kTera,
          peaks.flops_per_second.at(DType::kFloat32) / kTera, 100 * gpu.own_forward, 100 * gpu.own_backward,
          gpu.cudnn ? fmt::format(", by cuDNN {:.0f} and {:.0f} %", 100 * kForward, 100 * kBackward) : ""),
      fmt::format("NVLink {:.0f} % of {:.0f} GB/s, network {:.0f} % of {:.0f} GB/s per GPU, HBM {:.0f} % of {:.2f} "
                  "TB/s, PCIe {:.0f} GB/s each way",
                  100 * kNvLink, gpu.nvlink / kGiga, 100 * kInfiniBand, gpu.network / kGiga, 100 * kMemory,
                  peaks.memory_bytes_per_second / kTera, gpu.pcie / kGiga),
      "context and libraries take 1 GiB per rank, NCCL what its groups open; nothing of this was measured"};
  return profile;
}

}  // namespace

std::vector<std::string> built_in_profiles() {
  std::vector<std::string> names;
  for (const Gpu& gpu : gpus()) names.emplace_back(gpu.name);
  return names;
}

MachineProfile built_in_profile(const std::string& name) {
  for (const Gpu& gpu : gpus())
    if (name == gpu.name) return profile_of(gpu);
  throw InternalError("built_in_profile: no such profile: " + name);
}

}  // namespace carillon
