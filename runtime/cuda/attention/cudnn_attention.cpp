// libcarillon_cudnn.so: cuDNN's fused attention behind fused_attention.h, through the C++ frontend. The only file that
// includes cudnn_frontend.h (a minute to compile); compiled at -O1, since it only builds graphs and starts them.
#include <cudnn_frontend.h>

#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>
#include <vector>

#include "runtime/check.h"
#include "runtime/cuda/attention/fused_attention.h"
#include "runtime/cuda/check_cuda.h"

namespace carillon::cuda {
namespace {

namespace fe = cudnn_frontend;
using TensorInfo = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr const char* kRemedy = "in runtime.attention: cudnn, use runtime.attention=native";

void check_cudnn(fe::error_t status, const char* what) {
  if (status.is_bad()) fail(ExitCode::kInternal, "cuDNN {} failed ({}), {}", what, status.get_message(), kRemedy);
}

// The IDs of the graph's tensors, which are also the keys of the map of pointers.
enum Operand : int64_t { kQ = 1, kK, kV, kOut, kLse, kDout, kDq, kDk, kDv };

// The graph of one call with its workspace.
struct Plan {
  std::shared_ptr<fe::graph::Graph> graph = std::make_shared<fe::graph::Graph>();
  int64_t workspace = FusedAttention::kNoPlan;
};

TensorInfo heads_tensor(fe::graph::Graph& graph, const char* name, Operand number, const HeadsView& view, int64_t batch,
                        int64_t rows, int heads, int head_size) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_name(name)
                          .set_uid(number)
                          .set_dim({batch, heads, rows, head_size})
                          .set_stride({view.batch, view.head, view.token, 1}));
}

TensorInfo lse_tensor(fe::graph::Graph& graph, const FusedBlock& block) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_name("lse")
                          .set_uid(kLse)
                          .set_dim({block.batch, block.heads, block.rows, 1})
                          .set_stride({block.heads * block.rows, block.rows, 1, 1})
                          .set_data_type(fe::DataType_t::FLOAT));
}

void shape_output(const TensorInfo& tensor, Operand number, const HeadsView& view, int64_t batch, int64_t rows,
                  int heads, int head_size, fe::DataType_t type) {
  tensor->set_output(true)
      .set_uid(number)
      .set_dim({batch, heads, rows, head_size})
      .set_stride({view.batch, view.head, view.token, 1})
      .set_data_type(type);
}

template <class Attributes>
void set_mask(Attributes& attributes, const FusedBlock& block) {
  if (block.mask == BlockMask::kFull) return;
  attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
}

void set_types(fe::graph::Graph& graph) {
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
}

struct Inputs {
  TensorInfo q, k, v;
};
Inputs inputs(fe::graph::Graph& graph, const FusedBlock& b) {
  return {heads_tensor(graph, "q", kQ, b.q, b.batch, b.rows, b.heads, b.head_size),
          heads_tensor(graph, "k", kK, b.k, b.batch, b.keys, b.kv_heads, b.head_size),
          heads_tensor(graph, "v", kV, b.v, b.batch, b.keys, b.kv_heads, b.head_size)};
}

void describe(fe::graph::Graph& graph, const FusedForward& call) {
  const FusedBlock& b = call.block;
  set_types(graph);
  const Inputs in = inputs(graph, b);
  auto attributes = fe::graph::SDPA_attributes().set_name("forward").set_generate_stats(true).set_attn_scale(
      static_cast<float>(b.scale));
  set_mask(attributes, b);
  const auto [out, lse] = graph.sdpa(in.q, in.k, in.v, attributes);
  shape_output(out, kOut, call.out, b.batch, b.rows, b.heads, b.head_size, fe::DataType_t::BFLOAT16);
  lse->set_output(true).set_uid(kLse).set_data_type(fe::DataType_t::FLOAT);
  lse->set_dim({b.batch, b.heads, b.rows, 1}).set_stride({b.heads * b.rows, b.rows, 1, 1});
}

void describe(fe::graph::Graph& graph, const FusedBackward& call) {
  const FusedBlock& b = call.block;
  set_types(graph);
  const Inputs in = inputs(graph, b);
  const TensorInfo out = heads_tensor(graph, "out", kOut, call.out, b.batch, b.rows, b.heads, b.head_size);
  const TensorInfo dout = heads_tensor(graph, "dout", kDout, call.dout, b.batch, b.rows, b.heads, b.head_size);
  auto attributes = fe::graph::SDPA_backward_attributes()
                        .set_name("backward")
                        .set_attn_scale(static_cast<float>(b.scale))
                        .set_deterministic_algorithm(true);
  set_mask(attributes, b);
  const auto [dq, dk, dv] = graph.sdpa_backward(in.q, in.k, in.v, out, dout, lse_tensor(graph, b), attributes);
  // dk and dv are bfloat16, because with grouped heads no plan gives them in float32.
  shape_output(dq, kDq, call.dq, b.batch, b.rows, b.heads, b.head_size, fe::DataType_t::FLOAT);
  shape_output(dk, kDk, call.dk, b.batch, b.keys, b.kv_heads, b.head_size, fe::DataType_t::BFLOAT16);
  shape_output(dv, kDv, call.dv, b.batch, b.keys, b.kv_heads, b.head_size, fe::DataType_t::BFLOAT16);
}

// Everything that a plan depends on, as a list of numbers.
using Key = std::vector<int64_t>;
void append(Key& key, const HeadsView& view) { key.insert(key.end(), {view.batch, view.token, view.head}); }
Key key_of(const FusedBlock& b, int64_t direction) {
  int64_t scale = 0;
  std::memcpy(&scale, &b.scale, sizeof scale);
  Key key{direction, b.batch, b.rows, b.keys, b.heads, b.kv_heads, b.head_size, static_cast<int64_t>(b.mask), scale};
  for (const HeadsView* view : {&b.q, &b.k, &b.v}) append(key, *view);
  return key;
}
Key key_of(const FusedForward& call) {
  Key key = key_of(call.block, 0);
  append(key, call.out);
  return key;
}
Key key_of(const FusedBackward& call) {
  Key key = key_of(call.block, 1);
  for (const HeadsView* view : {&call.out, &call.dout, &call.dq, &call.dk, &call.dv}) append(key, *view);
  return key;
}

class CudnnAttention : public FusedAttention {
 public:
  CudnnAttention(int device, int64_t most_plans) : device_(device), most_plans_(most_plans) {
    CHECK_CUDA(cudaSetDevice(device));
    if (const cudnnStatus_t status = cudnnCreate(&handle_); status != CUDNN_STATUS_SUCCESS)
      throw Error(ExitCode::kUsage, fmt::format("cuDNN does not start ({})", cudnnGetErrorString(status)));
  }
  ~CudnnAttention() override {
    plans_.clear();
    cudnnDestroy(handle_);
  }

  std::string name() const override {
    const size_t version = cudnnGetVersion();
    return fmt::format("cuDNN {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  }
  int64_t workspace(const FusedForward& call) override { return plan(call).workspace; }
  int64_t workspace(const FusedBackward& call) override { return plan(call).workspace; }

  void run(const FusedForward& call, void* workspace, cudaStream_t stream) override {
    const FusedBlock& b = call.block;
    start(plan(call), {{kQ, b.q.data}, {kK, b.k.data}, {kV, b.v.data}, {kOut, call.out.data}, {kLse, call.lse}},
          workspace, stream);
  }
  void run(const FusedBackward& call, void* workspace, cudaStream_t stream) override {
    const FusedBlock& b = call.block;
    start(plan(call),
          {{kQ, b.q.data},
           {kK, b.k.data},
           {kV, b.v.data},
           {kOut, call.out.data},
           {kDout, call.dout.data},
           {kLse, const_cast<float*>(call.lse)},
           {kDq, call.dq.data},
           {kDk, call.dk.data},
           {kDv, call.dv.data}},
          workspace, stream);
  }

 private:
  using Pointers = std::unordered_map<int64_t, void*>;

  template <class Call>
  Plan& plan(const Call& call) {
    Key key = key_of(call);
    if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
    static Plan none;
    if (most_plans_ > 0 && static_cast<int64_t>(plans_.size()) >= most_plans_) return none;
    Plan& plan = plans_.try_emplace(std::move(key)).first->second;
    CHECK_CUDA(cudaSetDevice(device_));
    describe(*plan.graph, call);
    fe::graph::Graph& graph = *plan.graph;
    // If any step is refused there is no plan, and the caller uses other kernels.
    int64_t workspace = 0;
    if (graph.validate().is_good() && graph.build_operation_graph(handle_).is_good() &&
        graph.create_execution_plans({fe::HeurMode_t::A}).is_good() && graph.check_support(handle_).is_good() &&
        graph.build_plans(handle_).is_good() && graph.get_workspace_size(workspace).is_good())
      plan.workspace = workspace;
    return plan;
  }

  void start(Plan& plan, Pointers pointers, void* workspace, cudaStream_t stream) {
    CHECK(plan.workspace != kNoPlan, "cuDNN has a plan");
    CHECK_CUDA(cudaSetDevice(device_));
    if (const cudnnStatus_t status = cudnnSetStream(handle_, stream); status != CUDNN_STATUS_SUCCESS)
      fail(ExitCode::kInternal, "cuDNN does not take the stream ({}), {}", cudnnGetErrorString(status), kRemedy);
    check_cudnn(plan.graph->execute(handle_, pointers, workspace), "attention");
  }

  int device_;
  int64_t most_plans_;
  cudnnHandle_t handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

// A packed tensor without memory, for queries of support.
HeadsView packed(int64_t rows, int heads, int head_size) {
  return {nullptr, rows * heads * head_size, int64_t{heads} * head_size, head_size};
}

// Returns how many plans cuDNN offers for a call on this architecture, whose properties are the JSON text `device`.
// Needs no device. `why` receives the reason of a refusal.
template <class Call>
int64_t offered(const Call& call, int architecture, const std::string& device, std::string& why) {
  fe::graph::Graph graph;
  const auto properties = std::make_shared<fe::DeviceProperties>();
  const std::vector<uint8_t> bytes(device.begin(), device.end());
  const auto good = [&why](fe::error_t status) {
    if (status.is_bad()) why = status.get_message();
    return status.is_good();
  };
  if (!good(properties->deserialize(bytes))) return -1;
  graph.set_sm_version(architecture).set_device_properties(properties);  // before the ops: they copy what they find
  describe(graph, call);
  if (!good(graph.validate()) || !good(graph.build_operation_graph()) ||
      !good(graph.create_execution_plans({fe::HeurMode_t::A})) || !good(graph.check_support()))
    return 0;
  return graph.get_execution_plan_count();
}

}  // namespace
}  // namespace carillon::cuda

extern "C" {

__attribute__((visibility("default"))) carillon::cuda::FusedAttention* carillon_make_fused_attention(
    int device, int64_t most_plans) {
  return new carillon::cuda::CudnnAttention(device, most_plans);
}

// For tests/cuda/cudnn_plans_test.py, which has no device: returns the number of plans for one shape (0: refused, -1:
// the properties were not understood), with the reason of a refusal in `why`.
__attribute__((visibility("default"))) int64_t carillon_cudnn_plans(int architecture, const char* device, int64_t batch,
                                                                    int64_t rows, int64_t keys, int heads, int kv_heads,
                                                                    int head_size, int causal, int backward, char* why,
                                                                    int64_t why_bytes) {
  using namespace carillon::cuda;
  const HeadsView queries = packed(rows, heads, head_size), keyed = packed(keys, kv_heads, head_size);
  const FusedBlock block{batch,
                         rows,
                         keys,
                         heads,
                         kv_heads,
                         head_size,
                         causal ? BlockMask::kCausal : BlockMask::kFull,
                         1 / std::sqrt(static_cast<double>(head_size)),
                         queries,
                         keyed,
                         keyed};
  std::string text;
  const int64_t plans = backward ? offered(FusedBackward{block, queries, queries, nullptr, queries, keyed, keyed},
                                           architecture, device, text)
                                 : offered(FusedForward{block, queries, nullptr}, architecture, device, text);
  std::strncpy(why, text.c_str(), static_cast<size_t>(why_bytes) - 1);
  why[why_bytes - 1] = 0;
  return plans;
}

}  // extern "C"
