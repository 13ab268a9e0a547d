// What a counted step does, in its order: products by shape, attention by its pairs, and what travels, from the call
// that starts it to the one that waits; beside them the bytes that all other ops move. No rates here: time_plan.h puts
// a machine's in. Nothing is derived a second time: the step that trains is run (step_counts.h) and this is noted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace carillon {

// Parts of a step. What a micro-step does before the loss is its forward pass; after the loss, products of the form
// x·Wᵀ and forward attention are what recomputation does again.
enum class StepPart : uint8_t { kForward, kLoss, kBackward, kRecompute, kUpdate };
inline constexpr size_t kStepParts = 5;

// What an exchange is for.
enum class Exchange : uint8_t {
  kRing,       // blocks of keys and values along cp, and their gradients
  kTensor,     // rows of the residual over tensor ranks, and the loss's statistics
  kReduction,  // gradients, over dp_cp and over replicas
  kWeights,    // new weights, over dp_cp
  kToHost,     // copies from the device and to it
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
  double flop = 0;     // of these two: useful operations
  bool fused = false;  // kAttention: by cuDNN
  // kStart and kWait: which transfer. kStart: the bytes this rank sends or receives, whichever are more; how many
  // tensors they are; how many messages follow one another for each; and how many ranks the group spans.
  int64_t transfer = 0;
  double bytes = 0;
  int64_t tensors = 1, messages = 1, span = 1;
};

// A micro-step; zeroing the gradients belongs to the first, the update to the last.
struct MicroStepRecord {
  std::vector<StepEvent> events;
  // Of ops that only move bytes, and of all ops the number of calls; those of the update apart.
  double moved_bytes = 0, calls = 0;
  double update_moved_bytes = 0, update_calls = 0;
  // How often attention began, by part: passes through a ring.
  std::array<int64_t, kStepParts> attention_passes{};
};

struct StepRecord {
  std::vector<MicroStepRecord> micro_steps;
  // The step has so many; where that is more than were recorded, the last but one stands for those left out.
  int64_t accumulation = 1;
  int64_t tensor_chunks = 1;  // of a gather or scatter over tensor ranks
};

// Writes a record down while a step runs.
class StepRecorder {
 public:
  void begin_micro_step();  // the first begins by itself
  void begin_update() { part_ = StepPart::kUpdate; }

  void product(int64_t rows, int64_t inner, int64_t columns, StepPart part);
  void attention(int64_t rows, int64_t head_dim, double flop, StepPart part, bool fused = false);
  // Attention begins to pass through its blocks of keys; what a ring sends from here on belongs to it, and what it has
  // just begun to send: its first hop travels beside its first block.
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
