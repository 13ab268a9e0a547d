#include "launch/plan/step_clock.h"

#include <algorithm>

#include "runtime/error.h"

namespace carillon {
namespace {

constexpr DType kFallbacks[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat64};

double seconds_on(const Link& link, double bytes, double messages) {
  if (bytes == 0) return 0;
  return (link.bytes_per_second > 0 ? bytes / link.bytes_per_second : 0) + messages * link.latency_seconds;
}

bool of_host(Exchange exchange) { return exchange == Exchange::kToHost || exchange == Exchange::kToDevice; }

double& at(std::array<StepSeconds::ByPart, kExchanges>& table, Exchange exchange, StepPart part) {
  return table[static_cast<size_t>(exchange)][static_cast<size_t>(part)];
}

}  // namespace

Rates::Rates(const MachineProfile& profile, DType compute, bool fused, std::vector<std::string>& assumptions)
    : profile_(profile), product_type_(compute), attention_type_(compute) {
  const auto measured = [](const auto& map, DType type) { return map.contains(type) && !map.at(type).empty(); };
  const auto choose = [&](const auto& map, DType& type, const char* what) {
    if (measured(map, type)) return true;
    for (const DType other : kFallbacks)
      if (measured(map, other)) {
        assumptions.push_back(fmt::format("{} has no {} of {}: those of {} are taken", profile.name, what,
                                          carillon::name_of(type), carillon::name_of(other)));
        type = other;
        return true;
      }
    return false;
  };
  if (!choose(profile.products, product_type_, "products"))
    fail(ExitCode::kBadInput, "no product was measured, in the machine profile {}, run carillon bench", profile.name);
  has_attention_ = choose(profile.attention, attention_type_, "attention");
  if (!has_attention_)
    assumptions.push_back(fmt::format("{} has no attention: half the product rate is taken", profile.name));
  else if (profile.device == "cuda")
    for (const char* engine : {"native", "cudnn"})
      if ((fused || engine == std::string("native")) && !profile.has_attention_of(attention_type_, engine))
        assumptions.push_back(
            fmt::format("{} has no attention of engine {}: that of the other is taken", profile.name, engine));
}

double Rates::product(int64_t rows, int64_t inner, int64_t columns) const {
  return profile_.product_rate(product_type_, rows, inner, columns);
}

double Rates::attention(int64_t head_dim, int64_t length, bool backward, bool fused) const {
  return has_attention_
             ? profile_.attention_rate(attention_type_, head_dim, length, backward, fused ? "cudnn" : "native")
             : product(length, head_dim, length) / 2;
}

double Rates::best_product() const {
  double best = 0;
  for (const ProductRate& rate : profile_.products.at(product_type_)) best = std::max(best, rate.flops_per_second);
  return best;
}

void StepSeconds::add(const StepSeconds& other, double times) {
  const auto add_parts = [times](ByPart& to, const ByPart& from) {
    for (size_t part = 0; part < kStepParts; ++part) to[part] += times * from[part];
  };
  for (const auto member : {&StepSeconds::products, &StepSeconds::attention, &StepSeconds::flop,
                            &StepSeconds::uncovered, &StepSeconds::passes})
    add_parts(this->*member, other.*member);
  for (const auto member : {&StepSeconds::exchange, &StepSeconds::bytes, &StepSeconds::exposed})
    for (size_t purpose = 0; purpose < kExchanges; ++purpose)
      add_parts((this->*member)[purpose], (other.*member)[purpose]);
  for (const auto member :
       {&StepSeconds::moved_bytes, &StepSeconds::calls, &StepSeconds::update_moved_bytes, &StepSeconds::update_calls})
    this->*member += times * (other.*member);
}

double StepSeconds::sum(const ByPart& parts) {
  double all = 0;
  for (const double part : parts) all += part;
  return all;
}

double& StepClock::free_at(Exchange exchange) {
  return exchange == Exchange::kToHost     ? to_host_free_
         : exchange == Exchange::kToDevice ? to_device_free_
                                           : network_free_;
}

void StepClock::start(const StepEvent& event, StepSeconds& sums) {
  const bool cpu = machine_.profile.device == "cpu";
  const Link& link = of_host(event.exchange) ? machine_.profile.host : machine_.link(event.span);
  // Several tensors of one call are one launch on a device.
  const double messages = static_cast<double>(event.messages * (cpu ? event.tensors : 1));
  const double seconds = seconds_on(link, event.bytes, messages);
  at(sums.exchange, event.exchange, event.part) += seconds;
  at(sums.bytes, event.exchange, event.part) += event.bytes;
  if (event.exchange == Exchange::kRing) {
    if (ring_hops_ == 0) overlapping_attention_ = 0;
    ring_hops_ += seconds;
  }
  if (cpu) at(sums.exposed, event.exchange, event.part) += seconds;

  Transfer transfer{seconds, now_, event.exchange, event.part};
  if (!cpu) {
    double& free = free_at(event.exchange);
    transfer.end = free = std::max(now_, free) + seconds;
  }
  under_way_.emplace(event.transfer, transfer);
}

void StepClock::wait(const StepEvent& event, StepSeconds& sums) {
  const auto found = under_way_.find(event.transfer);
  if (found == under_way_.end()) return;  // already waited for
  const Transfer awaited = found->second;
  if (awaited.exchange == Exchange::kRing && ring_hops_ > 0) {
    // The last step of a backward pass has nothing to hide behind, at any length.
    if (overlapping_attention_ > 0)
      sums.uncovered[static_cast<size_t>(awaited.part)] += std::max(0.0, ring_hops_ - overlapping_attention_);
    ring_hops_ = overlapping_attention_ = 0;
  }
  // The wait includes transfers on the same link that began before; each counts for its own purpose.
  for (const auto& [number, transfer] : under_way_)
    if (&free_at(transfer.exchange) == &free_at(awaited.exchange)) {
      const double begin = std::max(now_, transfer.end - transfer.seconds), end = std::min(transfer.end, awaited.end);
      if (end > begin) at(sums.exposed, transfer.exchange, transfer.part) += end - begin;
    }
  under_way_.erase(found);
  now_ = std::max(now_, awaited.end);
}

StepSeconds StepClock::run(const MicroStepRecord& record) {
  StepSeconds sums;
  for (const StepEvent& event : record.events) {
    const auto part = static_cast<size_t>(event.part);
    switch (event.kind) {
      case StepEvent::Kind::kProduct: {
        const double seconds = event.flop / rates_.product(event.rows, event.inner, event.columns);
        sums.products[part] += seconds, sums.flop[part] += event.flop;
        now_ += seconds;
        break;
      }
      case StepEvent::Kind::kAttention: {
        const double seconds =
            event.flop / rates_.attention(event.columns, event.rows, event.part == StepPart::kBackward, event.fused);
        sums.attention[part] += seconds, sums.flop[part] += event.flop;
        now_ += seconds, overlapping_attention_ += seconds;
        break;
      }
      case StepEvent::Kind::kStart:
        start(event, sums);
        break;
      case StepEvent::Kind::kWait:
        wait(event, sums);
        break;
    }
  }
  for (size_t part = 0; part < kStepParts; ++part)
    sums.passes[part] += static_cast<double>(record.attention_passes[part]);
  sums.moved_bytes += record.moved_bytes, sums.calls += record.calls;
  sums.update_moved_bytes += record.update_moved_bytes, sums.update_calls += record.update_calls;
  return sums;
}

}  // namespace carillon
