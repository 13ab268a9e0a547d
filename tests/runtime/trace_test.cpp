// Spans: nested time counts once, a missing trace costs nothing, and a traced backend computes the same bits.
#include "runtime/trace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/reference/reference_backend.h"
#include "runtime/traced_backend.h"
#include "tests/support/random_tensor.h"

namespace carillon::testing {
namespace {

void sleep_milliseconds(int count) { std::this_thread::sleep_for(std::chrono::milliseconds(count)); }

TEST(Trace, InnerSpansAreNotCountedTwice) {
  Trace trace(3, true);
  {
    const TraceSpan outer("outer");
    sleep_milliseconds(5);
    for (int i = 0; i < 2; ++i) {
      const TraceSpan inner("inner", 1e6);
      sleep_milliseconds(10);
    }
  }
  const auto entries = trace.entries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "inner") << "longest first";
  EXPECT_EQ(entries[0].calls, 2);
  EXPECT_EQ(entries[0].flop, 2e6);
  EXPECT_GE(entries[0].seconds, 0.02);
  EXPECT_GE(entries[1].seconds, 0.005);
  EXPECT_LE(entries[0].seconds + entries[1].seconds, trace.seconds());

  const std::string text = trace.take_events_json();
  const auto events = nlohmann::json::parse("[" + text.substr(0, text.size() - 2) + "]");
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2]["name"], "outer");
  EXPECT_EQ(events[2]["pid"], 3);
  EXPECT_LE(events[2]["ts"], events[0]["ts"]);
  EXPECT_GE(events[2]["dur"].get<double>(), events[0]["dur"].get<double>() + events[1]["dur"].get<double>());
  EXPECT_EQ(trace.take_events_json(), "") << "taken once";
}

TEST(Trace, TheTableAccountsForEverySecond) {
  const auto lines = profile_table({{"a", 2, 1.5, 3e9}, {"b", 1, 0.25, 0}}, 2);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_NE(lines[1].find("75.0%"), std::string::npos) << lines[1];
  EXPECT_NE(lines[1].find(" 2"), std::string::npos) << "GFLOP/s: " << lines[1];
  EXPECT_NE(lines[3].find("0.250"), std::string::npos) << "between them: " << lines[3];
}

TEST(Trace, WithoutOneSpansDoNothing) {
  ASSERT_EQ(Trace::current(), nullptr);
  const TraceSpan span("nobody listens");
}

TEST(TracedBackend, ComputesTheSameAndCountsItsOperations) {
  const auto plain = make_backend({.device = "cpu", .threads = 2});
  const auto traced = make_backend({.device = "cpu", .threads = 2, .traced = true});
  const RandomTensor a(DType::kFloat32, {30, 20}, 1), b(DType::kFloat32, {40, 20}, 2), c(DType::kFloat32, {30, 40}, 3),
      d(DType::kFloat32, {30, 40}, 4);
  plain->matmul(c, a, b, Transpose::kNo, Transpose::kYes);
  Trace trace(0, false);
  traced->matmul(d, a, b, Transpose::kNo, Transpose::kYes);
  EXPECT_EQ(values_of(c), values_of(d));
  ASSERT_EQ(trace.entries().size(), 1u);
  EXPECT_EQ(trace.entries()[0].flop, 2.0 * 30 * 40 * 20);
}

// Looks to a wrapper like a device with separate memory.
class OwnMemory : public ReferenceBackend {
 public:
  bool unified() const override { return false; }
  Buffer allocate_host(size_t bytes) override {
    host_bytes += bytes;
    return ReferenceBackend::allocate_host(bytes);
  }
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override {
    ++uploads;
    return ReferenceBackend::start_upload(device, host);
  }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    ++downloads;
    return ReferenceBackend::start_download(host, device);
  }
  size_t host_bytes = 0;
  int uploads = 0, downloads = 0;
};

TEST(TracedBackend, LeavesCopiesToTheDevice) {
  auto owned = std::make_unique<OwnMemory>();
  const OwnMemory& inner = *owned;
  const auto traced = make_traced_backend(std::move(owned));
  EXPECT_FALSE(traced->unified());
  EXPECT_TRUE(make_backend({.device = "reference"})->unified());
  const Buffer memory = traced->allocate_host(16);
  EXPECT_EQ(inner.host_bytes, 16u);

  const RandomTensor device(DType::kFloat32, {2, 2}, 1), other(DType::kFloat32, {2, 2}, 2);
  const Tensor host(memory.data(), DType::kFloat32, {2, 2});
  traced->start_download(host, device)->wait();
  traced->start_upload(other, host)->wait();
  EXPECT_EQ(values_of(other), values_of(device));
  EXPECT_EQ(inner.uploads + 10 * inner.downloads, 11);
}

}  // namespace
}  // namespace carillon::testing
