// Records what a counted step does, in order: products by shape, attention by its pairs, and exchanges from the call
// that starts one to the call that waits for it; also the bytes that all other ops move. It contains no rates:
// time_plan.h adds those of a machine. Nothing is derived separately: the step that trains is run (step_counts.h) and
// noted here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace carillon {

// Parts of a step. A micro-step is in its forward pass until the loss. After the loss, products of the form x·Wᵀ and
// forward attention are recomputation.
enum class StepPart : uint8_t { kForward, kLoss, kBackward, kRecompute, kUpdate };
inline constexpr size_t kStepParts = 5;

// The purpose of an exchange.
enum class Exchange : uint8_t {
  kRing,       // blocks of keys and values along cp, and their gradients
  kTensor,     // rows of the residual, and the loss's statistics, over tensor ranks
  kReduction,  // gradients, over dp_cp and over replicas
  kWeights,    // new weights, over dp_cp
  kToHost,     // copies from the device, and to it
  kToDevice,
};
inline constexpr size_t kExchanges = 6;

struct StepEvent {
  enum class Kind : uint8_t { kProduct, kAttention, kStart, kWait };
  Kind kind;
  StepPart part;
  Exchange exchange = Exchange::kRing;  // kStart
  // kProduct: [rows, inner] · [inner, columns]. kAttention: query rows of a sequence, 0, head size.
  int64_t rows = 0, inner = 0, columns = 0;
  double flop = 0;     // of these two: useful FLOP
  bool fused = false;  // kAttention: by cuDNN
  // kStart and kWait: the transfer's number. kStart: the bytes this rank sends or receives, whichever are more; the
  // number of tensors; the number of consecutive messages for each; and the number of ranks the group spans.
  int64_t transfer = 0;
  double bytes = 0;
  int64_t tensors = 1, messages = 1, span = 1;
};

// A micro-step. Zeroing the gradients belongs to the first one, the update to the last.
struct MicroStepRecord {
  std::vector<StepEvent> events;
  // Bytes moved by ops that only move bytes, and calls of all ops; those of the update separately.
  double moved_bytes = 0, calls = 0;
  double update_moved_bytes = 0, update_calls = 0;
  // Number of attention calls begun, by part: these are passes through a ring.
  std::array<int64_t, kStepParts> attention_passes{};
};

struct StepRecord {
  std::vector<MicroStepRecord> micro_steps;
  // The number of micro-steps; if it exceeds those recorded, the last but one represents the missing ones.
  int64_t accumulation = 1;
  int64_t tensor_chunks = 1;  // of a gather or scatter over tensor ranks
};

// Records a step while it runs.
class StepRecorder {
 public:
  void begin_micro_step();  // the first begins automatically
  void begin_update() { part_ = StepPart::kUpdate; }

  void product(int64_t rows, int64_t inner, int64_t columns, StepPart part);
  void attention(int64_t rows, int64_t head_dim, double flop, StepPart part, bool fused = false);
  // Attention begins to pass through its blocks of keys. What a ring sends from now on belongs to this pass, and so
  // does what it has just begun to send: the first hop overlaps with the first block.
  void attention_pass(StepPart part);
  void call() { ++(part_ == StepPart::kUpdate ? now().update_calls : now().calls); }
  void moved(double bytes) { (part_ == StepPart::kUpdate ? now().update_moved_bytes : now().moved_bytes) += bytes; }
  // Returns the transfer's number, for wait().
  int64_t start(Exchange exchange, double bytes, int64_t tensors, int64_t messages, int64_t span);
  void wait(int64_t transfer);

  StepPart part() const { return part_; }
  void loss_is_over() { part_ = part_ == StepPart::kUpdate ? part_ : StepPart::kBackward; }
  StepEvent* last_product();  // null: none in this micro-step
  StepRecord take();

 private:
  MicroStepRecord& now() {
    if (record_.micro_steps.empty()) record_.micro_steps.emplace_back();
    return record_.micro_steps.back();
  }
  StepRecord record_;
  StepPart part_ = StepPart::kUpdate;
  StepPart pass_ = StepPart::kForward;
  int64_t transfers_ = 0;
};

}  // namespace carillon
