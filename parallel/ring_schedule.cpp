#include "parallel/ring_schedule.h"

#include "runtime/check.h"

namespace carillon {

RingSchedule::RingSchedule(int ranks)
    : ranks_(ranks), reads_(static_cast<size_t>(2) * ranks * ranks), spans_(static_cast<size_t>(2) * ranks) {}

void RingSchedule::set(const std::vector<int64_t>& reads_table) {
  CHECK(reads_table.size() == reads_.size(), "the table is [W, 2W]", reads_table.size(), reads_.size());
  reads_ = reads_table;
  for (int source = 0; source < ranks_; ++source)
    for (int half = 0; half < 2; ++half) {
      Span found;
      for (int step = 1; step < ranks_; ++step)
        if (reads(reader(source, step), source, half)) {
          if (found.first == 0) found.first = step;
          found.last = step;
        }
      spans_[static_cast<size_t>(2 * source + half)] = found;
    }
}

template <class Condition>
Halves RingSchedule::choose(int rank, int step, Condition condition) const {
  const int from = source(rank, step);
  return {condition(from, 0), condition(from, 1)};
}

Halves RingSchedule::read(int rank, int step) const {
  return choose(rank, step, [&](int from, int half) { return step > 0 && reads(rank, from, half); });
}

Halves RingSchedule::carried(int rank, int hop) const {
  return choose(rank, hop, [&](int from, int half) { return hop < span(from, half).last; });
}

Halves RingSchedule::gradient_carried(int rank, int step) const {
  return choose(rank, step, [&](int from, int half) {
    return step > 0 && span(from, half).first <= step && step < span(from, half).last;
  });
}

Halves RingSchedule::gradient_finished(int rank, int step) const {
  return choose(rank, step, [&](int from, int half) { return step > 0 && step == span(from, half).last; });
}

template <class Member>
bool RingSchedule::any(int step, Member member) const {
  for (int rank = 0; rank < ranks_; ++rank)
    if ((this->*member)(rank, step).any()) return true;
  return false;
}

bool RingSchedule::any_carried(int hop) const { return any(hop, &RingSchedule::carried); }
bool RingSchedule::any_gradient_carried(int step) const { return any(step, &RingSchedule::gradient_carried); }
bool RingSchedule::any_gradient_finished(int step) const { return any(step, &RingSchedule::gradient_finished); }

int64_t RingSchedule::key_halves() const {
  int64_t halves = 0;
  for (const Span& travelled : spans_) halves += travelled.last;
  return halves;
}

int64_t RingSchedule::gradient_halves() const {
  int64_t halves = 0;
  for (const Span& travelled : spans_)
    if (travelled.last > 0) halves += travelled.last - travelled.first + 1;
  return halves;
}

}  // namespace carillon
