#include "launch/plan/step_record.h"

#include <utility>

namespace carillon {

void StepRecorder::begin_micro_step() {
  // What came before the first micro-step belongs to it.
  if (part_ != StepPart::kUpdate || record_.micro_steps.empty()) record_.micro_steps.emplace_back();
  part_ = StepPart::kForward;
}

void StepRecorder::product(int64_t rows, int64_t inner, int64_t columns, StepPart part) {
  if (rows == 0 || inner == 0 || columns == 0) return;
  StepEvent event{StepEvent::Kind::kProduct, part};
  event.rows = rows, event.inner = inner, event.columns = columns;
  event.flop = 2.0 * static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns);
  now().events.push_back(event);
}

void StepRecorder::attention(int64_t rows, int64_t head_dim, double flop, StepPart part, bool fused) {
  if (flop == 0) return;
  StepEvent event{StepEvent::Kind::kAttention, part};
  event.rows = rows, event.columns = head_dim, event.flop = flop, event.fused = fused;
  now().events.push_back(event);
}

void StepRecorder::attention_pass(StepPart part) {
  ++now().attention_passes[static_cast<size_t>(part)];
  pass_ = part;
  std::vector<StepEvent>& events = now().events;
  for (size_t i = events.size(); i-- > 0 && events[i].kind == StepEvent::Kind::kStart;)
    if (events[i].exchange == Exchange::kRing) events[i].part = part;
}

int64_t StepRecorder::start(Exchange exchange, double bytes, int64_t tensors, int64_t messages, int64_t span) {
  StepEvent event{StepEvent::Kind::kStart, exchange == Exchange::kRing ? pass_ : part_, exchange};
  event.transfer = transfers_++;
  event.bytes = bytes, event.tensors = tensors, event.messages = messages, event.span = span;
  now().events.push_back(event);
  return event.transfer;
}

void StepRecorder::wait(int64_t transfer) {
  StepEvent event{StepEvent::Kind::kWait, part_};
  event.transfer = transfer;
  now().events.push_back(event);
}

StepEvent* StepRecorder::last_product() {
  std::vector<StepEvent>& events = now().events;
  for (size_t i = events.size(); i-- > 0;)
    if (events[i].kind == StepEvent::Kind::kProduct) return &events[i];
  return nullptr;
}

StepRecord StepRecorder::take() {
  part_ = StepPart::kUpdate;
  return std::exchange(record_, {});
}

}  // namespace carillon
