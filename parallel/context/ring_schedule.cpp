#include "parallel/context/ring_schedule.h"

#include "runtime/check.h"

namespace carillon {

RingSchedule::RingSchedule(int ranks, int inner)
    : ranks_(ranks), inner_(inner == 0 ? ranks : inner), reads_(static_cast<size_t>(2) * ranks * ranks) {
  CHECK(inner_ >= 1 && ranks_ % inner_ == 0, "inner rings share the ranks evenly", ranks_, inner_);
  within_.resize(static_cast<size_t>(2 * ranks_ * stages()));
  between_.resize(static_cast<size_t>(2 * ranks_));
}

void RingSchedule::set(const std::vector<int64_t>& reads_table) {
  CHECK(reads_table.size() == reads_.size(), "the table is [W, 2W]", reads_table.size(), reads_.size());
  reads_ = reads_table;
  for (int source = 0; source < ranks_; ++source)
    for (int half = 0; half < 2; ++half) {
      Span outer;
      for (int stage = 0; stage < stages(); ++stage) {
        Span found;
        for (int step = stage == 0 ? 1 : 0; step < inner_; ++step)
          if (reads(reader(source, base(stage) + step), source, half)) found.add(step);
        within_[static_cast<size_t>((2 * source + half) * stages() + stage)] = found;
        if (stage > 0 && found.any()) outer.add(stage);
      }
      between_[static_cast<size_t>(2 * source + half)] = outer;
    }
}

int RingSchedule::shifted(int rank, int nodes, int neighbours) const {
  const auto wrapped = [](int value, int size) { return (value % size + size) % size; };
  return wrapped(rank / inner_ + nodes, stages()) * inner_ + wrapped(rank % inner_ + neighbours, inner_);
}

template <class Condition>
Halves RingSchedule::choose(int rank, int step, Condition condition) const {
  const int from = source(rank, step);
  return {condition(from, 0), condition(from, 1)};
}

Halves RingSchedule::read(int rank, int step) const {
  return choose(rank, step, [&](int from, int half) { return step > 0 && reads(rank, from, half); });
}

Halves RingSchedule::carried(int rank, int step) const {
  return choose(rank, step, [&](int from, int half) { return step % inner_ < within(from, half, step / inner_).last; });
}

Halves RingSchedule::gradient_carried(int rank, int step) const {
  return choose(rank, step,
                [&](int from, int half) { return within(from, half, step / inner_).on_the_way(step % inner_); });
}

Halves RingSchedule::gradient_finished(int rank, int step) const {
  return choose(rank, step, [&](int from, int half) { return within(from, half, step / inner_).ends(step % inner_); });
}

Halves RingSchedule::outer_carried(int rank, int stage) const {
  return choose(rank, base(stage), [&](int from, int half) { return stage < between(from, half).last; });
}

Halves RingSchedule::collected(int rank, int stage) const {
  return choose(rank, base(stage), [&](int from, int half) { return within(from, half, stage).any(); });
}

Halves RingSchedule::outer_gradient_carried(int rank, int stage) const {
  return choose(rank, base(stage), [&](int from, int half) { return between(from, half).on_the_way(stage); });
}

Halves RingSchedule::outer_gradient_finished(int rank, int stage) const {
  return choose(rank, base(stage), [&](int from, int half) { return between(from, half).ends(stage); });
}

template <class Member>
bool RingSchedule::any(int at, Member member) const {
  for (int rank = 0; rank < ranks_; ++rank)
    if ((this->*member)(rank, at).any()) return true;
  return false;
}

bool RingSchedule::any_carried(int step) const { return any(step, &RingSchedule::carried); }
bool RingSchedule::any_gradient_carried(int step) const { return any(step, &RingSchedule::gradient_carried); }
bool RingSchedule::any_gradient_finished(int step) const { return any(step, &RingSchedule::gradient_finished); }
bool RingSchedule::any_outer_carried(int stage) const { return any(stage, &RingSchedule::outer_carried); }
bool RingSchedule::any_outer_gradient_carried(int stage) const {
  return any(stage, &RingSchedule::outer_gradient_carried);
}
bool RingSchedule::any_outer_gradient_finished(int stage) const {
  return any(stage, &RingSchedule::outer_gradient_finished);
}

RingSchedule::Wire RingSchedule::key_halves() const {
  Wire halves;
  for (const Span& ring : within_) halves.inner += ring.last;
  for (const Span& nodes : between_) halves.outer += nodes.last;
  return halves;
}

RingSchedule::Wire RingSchedule::gradient_halves() const {
  Wire halves;
  // A gradient of keys that only the collector has read does not travel.
  for (const Span& ring : within_)
    if (ring.any() && ring.last > 0) halves.inner += ring.last - ring.first + 1;
  for (const Span& nodes : between_)
    if (nodes.any()) halves.outer += nodes.last - nodes.first + 1;
  return halves;
}

}  // namespace carillon
