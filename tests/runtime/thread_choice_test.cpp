#include "runtime/cpu/thread_choice.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

namespace carillon::testing {
namespace {

using cpu::ThreadChoice;

// Runs regions of one millisecond of work for `seconds`; `rate` says how fast that many threads are. Returns the share
// of the time that each number of threads took.
std::map<int, double> shares(ThreadChoice& choice, double seconds, const std::function<double(int)>& rate) {
  std::map<int, double> shares;
  for (double time = 0; time < seconds;) {
    const int threads = choice.threads();
    const double took = 1e-3 / rate(threads);
    choice.add(1000, took);
    shares[threads] += took / seconds;
    time += took;
  }
  return shares;
}

TEST(ThreadChoice, KeepsAllThreadsWhereTheyAreFaster) {
  ThreadChoice choice(2);
  shares(choice, 5, [](int threads) { return threads; });  // the waits between trials grow
  const auto steady = shares(choice, 20, [](int threads) { return threads; });
  EXPECT_GT(steady.at(2), 0.97);
  EXPECT_GT(steady.at(1), 0) << "it goes on trying";
}

TEST(ThreadChoice, LeavesACoreToAnotherProcessAndTakesItBack) {
  const auto alone = [](int threads) { return threads; };
  const auto beside = [](int threads) { return threads == 2 ? 0.6 : 1.0; };
  ThreadChoice choice(2);
  shares(choice, 10, alone);
  shares(choice, 3, beside);  // found out
  EXPECT_GT(shares(choice, 10, beside).at(1), 0.95);
  shares(choice, 3, alone);
  EXPECT_GT(shares(choice, 10, alone).at(2), 0.95);
}

TEST(ThreadChoice, GoesDownAndUpOneByOne) {
  const auto best = [](int most) {
    return [most](int threads) { return threads <= most ? threads : 2.0 * most - threads; };
  };
  ThreadChoice choice(8);
  shares(choice, 10, best(5));
  EXPECT_GT(shares(choice, 20, best(5)).at(5), 0.9);
  shares(choice, 10, best(8));
  EXPECT_GT(shares(choice, 20, best(8)).at(8), 0.9);
}

// Differences smaller than what is worthwhile change nothing.
TEST(ThreadChoice, IgnoresNoise) {
  ThreadChoice choice(2);
  EXPECT_GT(shares(choice, 20, [](int threads) { return threads == 1 ? 1.03 : 1.0; }).at(2), 0.9);
}

TEST(ThreadChoice, OneThreadHasNoChoice) {
  ThreadChoice choice(1);
  EXPECT_EQ(shares(choice, 1, [](int) { return 1.0; }).size(), 1u);
}

}  // namespace
}  // namespace carillon::testing
