// Backend: a device and all ops that the network needs of it. Each op is declared once, here, with its shape contract;
// runtime/reference/ defines it in plain loops, runtime/cpu/ and runtime/cuda/ implement it fast. Classes that define
// ops list their names without parameters: see Op and CARILLON_OPS below.
//
// Rules for every op:
//  - Outputs first. Shapes are in the tensors and are checked. Legend of dims: runtime/tensor.h and README.md.
//  - "compute type" T is float64, float32 or bfloat16; "accumulate type" A is float64 for float64, else float32.
//    Statistics, sums and parameter gradients are of type A. A bfloat16 result is computed in float32, rounded once.
//  - Activation gradients are overwritten (=); parameter gradients, and dQ, dK, dV of attention, are added to (+=).
//  - Tensors are packed unless the op says "rows may be strided" (last dim packed, other strides free).
//  - Deterministic: the same inputs and thread count give the same bits; no op allocates after its first call of a
//    shape (scratch is kept by the backend).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/dropout.h"
#include "runtime/quantization.h"
#include "runtime/tensor.h"

namespace carillon {

enum class Transpose : bool { kNo = false, kYes = true };

// A rectangle of a block of attention: rows [row, row + rows) on keys [key, key + keys).
struct MaskPiece {
  enum class Kind : uint8_t {
    kIntervals,  // as the mask says
    kFull,       // every row sees every key
    kCausal,     // as many rows as keys; row i sees keys 0 … i
  };
  int64_t row = 0, rows = 0, key = 0, keys = 0;
  Kind kind = Kind::kIntervals;
};

// What the caller knows about a mask without reading its tensors, which may be on a device. Used by engines that
// compute whole blocks only; results are correct without it.
struct MaskShape {
  enum class Kind : uint8_t {
    kIntervals,  // nothing, or what `pieces` say
    kFull,       // rows from `begin` on see all keys of the block, those before it none
    kCausal,     // as many rows as keys; row i sees keys 0 … i
  };
  Kind kind = Kind::kIntervals;
  int64_t begin = 0;        // of kFull
  bool empty_rows = false;  // except for some rows with an empty interval (padding)
  // Of kIntervals: pieces that together contain every visible pair once, if at least one of them is whole
  // (attention_pieces.h); else empty. The memory belongs to the caller.
  std::span<const MaskPiece> pieces = {};
};

// Which keys each query row sees: those whose sequence index lies in [first[row], query_index[row]] (an interval; empty
// when first > query_index, as for padding). All masks have this form: causal, packed documents, sliding windows,
// padding, and any layout of the ring. query_index, key_index and each row of first are non-decreasing, so comparing
// the corners of a block tells whether it is skipped, full or ragged.
struct AttentionMask {
  Tensor query_index;  // [Tq] int64: index in the sequence of each query row
  Tensor first;        // [B, Tq] int64: index of the first key the row may see
  Tensor key_index;    // [Tk] int64: index in the sequence of each key row
  MaskShape shape;     // what is known of it beforehand
};

// The running state of a softmax over blocks of keys, in type A. Fold blocks in with attention_forward, any number of
// times and in any order; attention_finish turns it into the output. Rows that saw no key: maximum -inf, sum 0.
struct AttentionState {
  Tensor accumulator;  // [B, Tq, NH, HD]  sum over keys of exp(score - maximum) · value; anything while sum is 0
  Tensor maximum;      // [B, NH, Tq]      largest score so far (an implementation may keep any reference near it)
  Tensor sum;          // [B, NH, Tq]      sum over keys of exp(score - maximum)
};

// The first and the last of the blocks of keys that attention_forward folds into one state, where a call is that: it
// then does attention_begin's or attention_finish's work too, and gives what the ops one by one would, bit for bit.
struct AttentionEnds {
  bool first = false;         // nothing was folded in: the state may hold anything
  Tensor sinks = {};          // with it: [NH] (T), as attention_begin takes them
  Tensor out = {}, lse = {};  // the last: the result, as attention_finish gives it; the state may be anything then
};

// The same of attention_backward.
struct AttentionGradientEnds {
  // The first block: dq may hold anything, and becomes what this block gives. delta may hold anything too: the row sums
  // dout · out are formed by the call, and are in it afterwards with `delta_wanted`, which later calls need. All rows
  // are of the call.
  bool first = false, delta_wanted = false;
  bool first_keys = false;  // dk and dv may hold anything, and become what this block gives
  // The only block, with both: the gradients, rounded to T. dq, dk and dv, which are of type A, may be anything then.
  Tensor result_dq = {}, result_dk = {}, result_dv = {};
  // With results, whose dq and dk then lie side by side in rows (joined_heads.h): these are turned back, as
  // rotate(…, inverse) would with the same position [B·Tq], cosine and sine. Absent: not turned.
  Tensor position = {}, cosine = {}, sine = {};
};

// An MLP's gate: both are z · sigmoid(g(z)).
enum class GateActivation {
  kSilu,      // g(z) = z
  kGeluTanh,  // g(z) = 2·sqrt(2/π) · (z + 0.044715·z³): gelu by its tanh formula (Hendrycks and Gimpel, 2016)
};

// Variants of RMSNorm.
struct NormOptions {
  double weight_offset = 0;  // the weight counts as offset + weight
  // For rows of which x holds only a part, because heads are split over ranks: [N] (A), the sums over all `columns` of
  // the row; forward Σ x², backward Σ dy·(offset + weight)·x. Absent if x holds whole rows.
  Tensor sums = {};
  int64_t columns = 0;
  // Only for rmsnorm_backward:
  Tensor output = {};             // of x's shape: receives y again, bitwise as in the forward pass
  bool overwrite_weight = false;  // dweight = in place of +=
  // dweight need not be complete before finish_norms(), so that a device can finish the sums of several norms at once.
  bool deferred = false;
};

// One AdamW update (Loshchilov and Hutter, 2017, decoupled decay, as PyTorch's AdamW defines it).
struct AdamWStep {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;    // of the tensors that decay
  int64_t step = 1;           // 1 for the first update: bias corrections are 1 - beta^step
  double gradient_scale = 1;  // multiplies the gradient: clip factor / number of target tokens
};

// What it updates of one parameter: tensors of one shape, packed.
struct AdamWTensors {
  Tensor weight;               // T: master converted; may be absent or alias master
  Tensor master;               // A
  Tensor exp_avg, exp_avg_sq;  // A
  Tensor gradient;             // A
  bool decays = true;          // norms and biases do not
};

// Peak rates of a device, from its maker's figures or from counting its units. 0 or missing: unknown.
struct DevicePeak {
  std::map<DType, double> flops_per_second;  // dense products; float32 is float32, not TF32
  double memory_bytes_per_second = 0;        // of its own memory, reading and writing together
  std::string source;                        // where the figures are from
};

// What the device is and which of its features are used; printed by `carillon info`.
struct DeviceDescription {
  std::string name;                    // "cpu", "reference", "cuda"
  std::string processor;               // "AMD EPYC …"
  std::string instruction_set;         // chosen: "amx", "avx512_bf16", "avx512", "avx2", "baseline"
  std::vector<std::string> available;  // all that could be chosen, best first
  bool bfloat16_native =
      false;  // products of bfloat16 run in bfloat16 hardware; otherwise in float32, which the log says
  int threads = 1;
  std::string attention;         // the attention kernels in use, if there is a choice, with the reason; else ""
  std::string attention_engine;  // the same in one word: "native", "cudnn", ""
  std::vector<std::pair<std::string, std::string>> libraries;  // name and version of what it is built on
  int devices = 0;                                             // on this machine; 0 if ranks share processors
  DevicePeak peak;
};

// Bytes of a device's own memory; all 0 if it uses the host's.
struct DeviceMemory {
  int64_t total = 0;      // as the driver reports it
  int64_t free = 0;       // currently, for any process
  int64_t allocated = 0;  // in buffers from this backend's allocate()
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceDescription describe() const = 0;
  // Returns zeroed memory of this device. Throws error 74 if there is none left.
  virtual Buffer allocate(size_t bytes) = 0;
  // Copy between host and device, same shape and dtype; synchronous.
  virtual void upload(Tensor device, Tensor host) = 0;
  virtual void download(Tensor host, Tensor device) = 0;
  virtual void synchronize() = 0;
  // The stream on which ops are queued in order; nullptr if ops run synchronously.
  virtual void* queue() { return nullptr; }
  // Whether the host can read the device's memory.
  virtual bool unified() const { return true; }
  virtual DeviceMemory memory() { return {}; }
  // Whether the pointer is in this device's own memory. Called only if memory is not unified.
  virtual bool holds(const void*) const { return false; }

  // ---- copies that run concurrently with the ops -------------------------------------------------------------------
  // Returns zeroed host memory for such copies, page-locked if the device needs that. Throws error 74 if there is none
  // left.
  virtual Buffer allocate_host(size_t bytes) { return Buffer::host(bytes); }
  // One copy in flight. It begins after the ops already queued; ops queued after wait() run after it. wait() blocks the
  // queue, not the host: the host may read a downloaded tensor only after synchronize(). Between start and wait no op
  // may write the source or access the target. Copies in flight are unordered; a copy started after another one's
  // wait() runs after that one. Call wait() before destroying the copy.
  class Copy {
   public:
    virtual ~Copy() = default;
    virtual void wait() = 0;
  };
  // Same shape and dtype, packed; host memory from allocate_host. By default the copy is done when start returns.
  virtual std::unique_ptr<Copy> start_upload(Tensor device, Tensor host);
  virtual std::unique_ptr<Copy> start_download(Tensor host, Tensor device);

  // ---- elementwise and copies -------------------------------------------------------------------------------------
  virtual void fill(Tensor x, double value) = 0;
  // y = x converted to y's type; same shape, both may be strided.
  virtual void copy(Tensor y, Tensor x) = 0;
  // y += x; floating types of any mix, sum formed in the wider of the two (at least float32), both may be strided.
  virtual void add(Tensor y, Tensor x) = 0;
  // y = a + b; one shape and type. y may be a or b.
  virtual void sum(Tensor y, Tensor a, Tensor b) = 0;
  virtual void scale(Tensor x, double factor) = 0;
  // x[n] *= factor[n]; x [N, C] or [N, H, C] in T (rows and heads may be strided), factor [N] (A).
  virtual void scale_rows(Tensor x, Tensor factor) = 0;
  // y[n, c] = x[n, c] / (1 − probability) where the element is kept, else 0; with `accumulate` y += it (rounded once).
  // x, y [N, C] in T (rows may be strided); row[N] int64: what runtime/dropout.h calls a row. y may be x.
  virtual void dropout(Tensor y, Tensor x, Tensor row, const Dropout& dropout, bool accumulate = false) = 0;
  // y[rows, width] (T; rows may be strided) = the values of x: a product of two float32, rounded once.
  virtual void dequantize(Tensor y, const QuantizedMatrix& x) = 0;
  // sums[n] (A) = Σ over the row of a·b, or of a·b·(offset + weight) unless weight is absent. a, b [N, C] in T (rows
  // may be strided), weight [C].
  virtual void row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) = 0;
  // x = cap · tanh(x / cap).
  virtual void soft_cap(Tensor x, double cap) = 0;
  // Sum of squares of all elements of tensors of one type, in float64: of each tensor by a tree that its count fixes,
  // then over the tensors in their order. The result has the same bits as adding up one tensor at a time, with any
  // thread count, but waits for the device only once.
  virtual double sum_of_squares(std::span<const Tensor> tensors) = 0;

  // ---- linear ------------------------------------------------------------------------------------------------------
  // c[M, N] = op(a)[M, K] · op(b)[K, N], plus c when `accumulate`. a and b share a compute type T; c is T or A(T).
  // Rows may be strided in all three. y = x·Wᵀ is matmul(y, x, W, kNo, kYes).
  virtual void matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b,
                      bool accumulate = false) = 0;
  // y[N, C] += bias[C].  y T (rows may be strided), bias T.
  virtual void add_bias(Tensor y, Tensor bias) = 0;
  // dbias[C] (A) += sum over rows of dy[N, C] (T; rows may be strided).
  virtual void bias_backward(Tensor dbias, Tensor dy) = 0;

  // ---- embedding ---------------------------------------------------------------------------------------------------
  // y[N, C] = table[id - first_row], 0 for an id outside [first_row, first_row + rows of table): vocabulary-parallel
  // ranks then add up to the whole. ids[N] int64.
  virtual void embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) = 0;
  // dtable[id - first_row] (A) += dy[N, C] (T), rows in order n = 0, 1, …
  virtual void embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) = 0;

  // ---- RMSNorm (Zhang and Sennrich, 2019) --------------------------------------------------------------------------
  // y[N, C] = x[N, C] · rstd[N] · weight[C], rstd = 1 / sqrt(mean over C of x² + epsilon) in type A, kept for backward.
  // x and y [N, C], rows may be strided; rank-3 [N, H, C] (heads; rstd [N, H]) works too.
  virtual void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon,
                               const NormOptions& options = {}) = 0;
  // sum = x + branch as in sum(), then y = norm of sum; bitwise equal to the two separate ops. sum may be x or branch,
  // y may be branch. Matrices; rows may be strided.
  virtual void sum_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor branch, Tensor weight,
                                   double epsilon, const NormOptions& options = {}) = 0;
  // dx (T) = gradient by x, or += with `accumulate` (rounded once); dweight[C] (A) += gradient by weight, unless
  // absent. Without `accumulate` dx may be dy.
  virtual void rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                                bool accumulate = false, const NormOptions& options = {}) = 0;
  // Completes the weight gradients that NormOptions::deferred has left open.
  virtual void finish_norms() = 0;

  // ---- rotation (RoPE, Su et al., 2021), half layout --------------------------------------------------------------
  // In place on x[N, H, HD] (rows and heads may be strided). Pair j of R turns (x[j], x[j + HD/2]) by the angle whose
  // cosine and sine, times the attention factor, stand in table row position[n]: u' = u·c - v·s, v' = u·s + v·c.
  // `inverse` turns by the negative angle (and again times the factor): the backward pass of the rotation.
  // cosine, sine [P, R] in type A; position[N] int64 < P. With partial rotary (2·R < HD): pairs are (x[j], x[j + R]) of
  // the first 2·R entries, the rest passes through.
  virtual void rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) = 0;
  // The gradient by the frequencies of the pairs, with pair j rotated by position · frequency: rates[R] (float64) += Σ
  // over rows and heads of position[n] · (x[j]·dx[j + R] − x[j + R]·dx[j]). x [N, H, HD] is the result of rotate(), dx
  // the gradient by x. x and dx T, rows and heads may be strided.
  virtual void rotation_gradient(Tensor rates, Tensor x, Tensor dx, Tensor position) = 0;

  // ---- SwiGLU (Shazeer, 2020) --------------------------------------------------------------------------------------
  // y = activation(gate) · up; all [N, F], rows may be strided.
  virtual void swiglu_forward(Tensor y, Tensor gate, Tensor up, GateActivation activation = GateActivation::kSilu) = 0;
  // Also recomputes y with the bits of the forward pass, for the gradient of the weight that follows. dgate and dup may
  // alias gate and up.
  virtual void swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up,
                               GateActivation activation = GateActivation::kSilu) = 0;

  // ---- attention (online softmax: Milakov and Gimelshein, 2018; blocks: Dao et al., 2022) --------------------------
  // q [B, Tq, NH, HD], k and v [B, Tk, NKV, HD] in T, dims 0..2 may be strided; NH a multiple of NKV, query head h
  // reads key/value head h / (NH / NKV). Never holds [Tq, Tk].
  //
  // Initialises the state: maximum -inf, sum 0. With `sinks` [NH] (T), each head has an additional logit, its sink,
  // that belongs to no key and has value 0: then maximum is the sink, sum 1, accumulator 0 (Xiao et al., 2309.17453;
  // gpt-oss learns the sinks).
  virtual void attention_begin(const AttentionState& state, Tensor sinks = {}) = 0;
  virtual void attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                                 double scale, const AttentionEnds& ends = {}) = 0;
  // out [B, Tq, NH, HD] (T) and lse [B, NH, Tq] (A) = log of the sum of exp(score); a row that saw no key: out 0, lse
  // -inf.
  virtual void attention_finish(Tensor out, Tensor lse, const AttentionState& state) = 0;
  // delta [B, NH, Tq] (A) = row sums of dout · out.
  virtual void attention_delta(Tensor delta, Tensor dout, Tensor out) = 0;
  // dsinks [NH] (A) += −Σ over sequences and rows of exp(sink − lse) · delta.
  virtual void attention_sinks_backward(Tensor dsinks, Tensor sinks, Tensor lse, Tensor delta) = 0;
  // Adds the contribution of one block of keys to dq [B, Tq, NH, HD], dk and dv [B, Tk, NKV, HD], all of type A, from
  // the final out [B, Tq, NH, HD] (T), lse and delta over all blocks. Rows with lse = -inf contribute nothing.
  virtual void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                  Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                                  const AttentionGradientEnds& ends = {}) = 0;

  // ---- cross-entropy over a vocabulary that may be split over ranks ------------------------------------------------
  // logits [N, Vl] in T or A hold columns [first_column, first_column + Vl) of the vocabulary.
  // Step 1: maximum[N] (A) = row maximum of the local columns (-inf when Vl = 0); all-reduce max.
  virtual void cross_entropy_maximum(Tensor maximum, Tensor logits) = 0;
  // Step 2: sums[2, N] (A): [0] = sum over local columns of exp(logit - maximum), [1] = the target's logit - maximum
  // where the target is local, else 0; all-reduce sum. target[N] int64, -1: no target.
  virtual void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) = 0;
  // Step 3: loss[N] (A) = log(sums[0]) - sums[1] where target >= 0, else 0; and, unless absent, gradient [N, Vl] (T or
  // A) = weight[n] · (softmax - onehot(target)), rows without target or with weight 0 exactly 0. weight[N] (A).
  // `gradient` may be `logits`, or overlay them with each row starting at the same address. With a `cap` the logits are
  // the result of soft_cap, and the gradient is that by its input: multiplied by 1 − (logit / cap)².
  virtual void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums,
                                    Tensor target, Tensor weight, int64_t first_column, double cap = 0) = 0;

  // ---- optimizer ---------------------------------------------------------------------------------------------------
  // Updates many parameters of one type T in a single pass over memory. Their tensors must not overlap, except that a
  // weight may be its own master.
  virtual void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) = 0;
};

// The ops above by name: X(op) for each. An op is complete once it is listed here too: otherwise the compiler reports
// that ReferenceBackend is abstract, or that a switch over OpKind lacks a case.
#define CARILLON_OPS(X)       \
  X(fill)                     \
  X(copy)                     \
  X(add)                      \
  X(sum)                      \
  X(scale)                    \
  X(scale_rows)               \
  X(dropout)                  \
  X(dequantize)               \
  X(row_dot)                  \
  X(soft_cap)                 \
  X(sum_of_squares)           \
  X(matmul)                   \
  X(add_bias)                 \
  X(bias_backward)            \
  X(embedding_forward)        \
  X(embedding_backward)       \
  X(rmsnorm_forward)          \
  X(sum_rmsnorm_forward)      \
  X(rmsnorm_backward)         \
  X(finish_norms)             \
  X(rotate)                   \
  X(rotation_gradient)        \
  X(swiglu_forward)           \
  X(swiglu_backward)          \
  X(attention_begin)          \
  X(attention_forward)        \
  X(attention_finish)         \
  X(attention_delta)          \
  X(attention_sinks_backward) \
  X(attention_backward)       \
  X(cross_entropy_maximum)    \
  X(cross_entropy_sums)       \
  X(cross_entropy_finish)     \
  X(adamw)

#define CARILLON_NAME_OP(op) op,
enum class OpKind : uint8_t { CARILLON_OPS(CARILLON_NAME_OP) };
#undef CARILLON_NAME_OP

// The function type of an op. Classes that define an op declare it with this type, so that its parameters appear only
// in the contract above and in the definition:
//   Op<&Backend::rotate> rotate;
// As with `override`, this does not compile if Backend has no such op; g++ 12 does not accept the word `override` after
// such a declaration.
template <auto op>
struct OpType;
template <class Result, class... Arguments, Result (Backend::*op)(Arguments...)>
struct OpType<op> {
  using type = Result(Arguments...);
};
template <auto op>
using Op = typename OpType<op>::type;

// Declares every op in a class: CARILLON_OPS(CARILLON_DECLARE_OP)
#define CARILLON_DECLARE_OP(op) Op<&Backend::op> op;

// The same for one tensor.
inline double sum_of_squares(Backend& backend, const Tensor& x) { return backend.sum_of_squares(std::span(&x, 1)); }

// How to make a backend. threads = 0: OMP_NUM_THREADS if set, else the size of this process's affinity mask.
// instruction_set: "auto", or one of describe().available to force a lower one (tests do).
struct BackendOptions {
  std::string device = "auto";  // auto | cpu | reference | cuda; auto: cuda if a device can be used, else cpu
  int threads = 0;
  std::string instruction_set = "auto";
  // Restrict oneDNN to `instruction_set` too. Affects the whole process, and only before oneDNN's first product.
  bool lower_libraries = false;
  bool traced = false;   // record every op as a span (trace.h)
  int device_index = 0;  // which of the machine's devices; launch passes the rank on its node
  // native | cudnn | auto: the attention kernels. cudnn: on CUDA devices of compute capability 9.0 and later, for
  // bfloat16. auto: cudnn if it is present and agrees with the native kernels, else native; describe() says why.
  std::string attention = "native";
  // The head size of the model, if known: an engine is compared with the native kernels in this size, and used for this
  // size only. 0: unknown; the comparison uses heads of 64 and of 128 channels.
  int64_t head_size = 0;
  int64_t head_group = 2;  // query heads per key/value head
  // Time several of the product algorithms that the device's library offers, once for each shape, and keep the fastest
  // (CUDA). Off: the one its heuristics put first. With it the last bits differ from run to run, because the times do.
  bool tune = false;
};

// Throws error 64 if the device is unknown, not built into this program, or not present.
std::unique_ptr<Backend> make_backend(const BackendOptions& options);

// The elements of x (packed, any floating type) in their order, on the host, as float64.
std::vector<double> download_as_double(Backend& backend, Tensor x);

}  // namespace carillon
