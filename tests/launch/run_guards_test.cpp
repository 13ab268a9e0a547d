// The guards of a run: its lock, the spike guard, the search for a slow rank, setting checkpoints aside.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "data/checkpoint/checkpoint_folders.h"
#include "launch/session/process_id.h"
#include "launch/session/run_lock.h"
#include "launch/train/slow_ranks.h"
#include "launch/train/spike_guard.h"
#include "parallel/transport/thread_communicator.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

namespace fs = std::filesystem;
const auto kSilent = [](const std::string&) {};
constexpr RunLockTimes kQuick{0.05, 0.5};

ExitCode code_of(const std::function<void()>& body, std::string* says = nullptr) {
  try {
    body();
    return ExitCode::kDone;
  } catch (const Error& error) {
    if (says != nullptr) *says = error.what();
    return error.code();
  }
}

TEST(RunLock, KeepsASecondWriterOutAndLeavesNothing) {
  const TemporaryFolder folder;
  const std::string run = folder.path() + "/deep/run";
  {
    const RunLock first(run, kSilent, kQuick);
    std::string says;
    EXPECT_EQ(code_of([&] { const RunLock second(run, kSilent, kQuick); }, &says), ExitCode::kCannotCreate);
    EXPECT_NE(says.find("process " + std::to_string(getpid())), std::string::npos) << says;
    EXPECT_NE(says.find(host_name()), std::string::npos) << says;
    EXPECT_TRUE(run_is_active(run));
  }
  EXPECT_FALSE(run_is_active(run));
  EXPECT_FALSE(fs::exists(folder.path() + "/deep")) << "folders made for the lock alone are gone with it";
}

TEST(RunLock, AFolderThatWasThereStaysAsItWas) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() + "/kept") << "x";
  { const RunLock lock(folder.path(), kSilent, kQuick); }
  EXPECT_TRUE(fs::exists(folder.path() + "/kept"));
  EXPECT_FALSE(fs::exists(folder.path() + "/.running"));
}

TEST(RunLock, ADeadProcessOfThisHostHoldsNothing) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() + "/.running") << host_name() << " 1 0\n";  // process 1 started at another time
  EXPECT_FALSE(run_is_active(folder.path()));
  EXPECT_EQ(code_of([&] { const RunLock lock(folder.path(), kSilent, kQuick); }), ExitCode::kDone);
}

TEST(RunLock, AnotherHostIsWatchedForASignOfLife) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/.running";
  std::ofstream(path) << "elsewhere 17 4711\n";
  std::atomic<bool> done{false};
  std::thread heart([&] {
    while (!done) {
      utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  std::string says;
  EXPECT_EQ(code_of([&] { const RunLock lock(folder.path(), kSilent, {0.05, 60}); }, &says), ExitCode::kCannotCreate);
  EXPECT_NE(says.find("process 17 on elsewhere"), std::string::npos) << says;
  done = true;
  heart.join();
  bool told = false;
  EXPECT_EQ(code_of([&] {
              const RunLock lock(
                  folder.path(), [&](const std::string&) { told = true; }, kQuick);
            }),
            ExitCode::kDone)
      << "without one it is taken over";
  EXPECT_TRUE(told);
}

TEST(RunLock, ASymbolicLinkInPlaceOfTheLockIsNotFollowed) {
  const TemporaryFolder folder;
  fs::create_symlink(folder.path() + "/victim", folder.path() + "/.running");
  EXPECT_EQ(code_of([&] { const RunLock lock(folder.path(), kSilent, kQuick); }), ExitCode::kCannotCreate);
  EXPECT_FALSE(fs::exists(folder.path() + "/victim"));
}

SpikeSection spike(double factor, int64_t window) {
  SpikeSection section;
  section.factor = factor;
  section.window = window;
  return section;
}

TEST(SpikeGuard, JudgesAgainstTheMedianOnceHalfTheWindowStands) {
  SpikeGuard guard(spike(3, 4));
  EXPECT_FALSE(guard.is_spike(1e9)) << "nothing to compare with";
  guard.accept(2);
  EXPECT_FALSE(guard.is_spike(1e9));
  guard.accept(2);
  EXPECT_TRUE(guard.is_spike(6.5));
  EXPECT_FALSE(guard.is_spike(5.5));
  guard.accept(50);  // an accepted outlier does not move the median
  guard.accept(2);
  EXPECT_TRUE(guard.is_spike(6.5));
  for (int i = 0; i < 4; ++i) guard.accept(100);
  EXPECT_FALSE(guard.is_spike(200)) << "the window has moved on";
}

TEST(SpikeGuard, GoesOnFromACheckpointAndIsOffByDefault) {
  SpikeGuard first(spike(2, 6)), second(spike(2, 6)), off((SpikeSection()));
  for (const double loss : {3.0, 1.0, 2.0, 2.5}) first.accept(loss), off.accept(loss);
  second.set_window(first.window());
  for (const double loss : {3.9, 4.1, 5.0, 1e9}) EXPECT_EQ(first.is_spike(loss), second.is_spike(loss)) << loss;
  EXPECT_FALSE(off.is_spike(1e9));
  EXPECT_TRUE(off.window().empty());
}

TEST(SlowRanks, NamesTheRankThatIsSlowTwiceAndNoOther) {
  std::vector<int> reports(3, 0), named(3, -1);
  run_ranks(3, [&](std::unique_ptr<Communicator> world) {
    SlowRanks slow;
    const auto me = static_cast<size_t>(world->rank());
    for (int step = 0; step < 200; ++step) {
      // Every rank has an occasional slow step; from step 100 on every step of rank 1 is slow.
      double seconds = step % 10 == world->rank() ? 9.0 : 1.0;
      if (step >= 100 && world->rank() == 1) seconds = 2.0;
      const auto found = slow.add(*world, seconds);
      if (!found) continue;
      EXPECT_GE(step, 100) << "a false alarm";
      ++reports[me];
      named[me] = found->rank;
      EXPECT_NEAR(found->times, 2.0, 1e-12);
      EXPECT_EQ(found->host, host_name());
    }
  });
  EXPECT_EQ(reports, std::vector<int>(3, 1)) << "once, on every rank";
  EXPECT_EQ(named, std::vector<int>(3, 1));
}

}  // namespace
}  // namespace carillon::testing
