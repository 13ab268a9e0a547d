// Asynchronous saves: they contain the state at the time they began, on any number of ranks; a disk error is reported
// at the end, on every rank; and earlier checkpoints survive whichever process dies when.
#include "data/checkpoint/background_save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "parallel/transport/thread_communicator.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRows = 1037, kColumns = 619;  // 2.4 MiB: some blocks belong to one machine, others to several

// A rank's rows or columns of one matrix, filled with consecutive numbers.
struct Part {
  Rectangle rectangle = Rectangle::whole({kRows, kColumns});
  std::vector<float> values;
  std::vector<NamedShard> shards;

  Part(const Communicator& world, bool columns) {
    const size_t dim = columns ? 1 : 0;
    const Range range = share_of(rectangle.extent[dim], world.size(), world.rank());
    rectangle.offset[dim] = range.begin;
    rectangle.extent[dim] = range.size();
    for (int64_t i = 0; i < rectangle.count(); ++i)
      values.push_back(static_cast<float>((rectangle.offset[0] + i / rectangle.extent[1]) * kColumns +
                                          rectangle.offset[1] + i % rectangle.extent[1]));
    shards = {{"model/a", rectangle, Tensor(values.data(), DType::kFloat32, rectangle.extent), true}};
  }
};

Manifest manifest_of(int64_t step) {
  Manifest manifest;
  manifest.step = step;
  return manifest;
}

std::vector<std::string> steps_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const CheckpointFolder& found : list_checkpoints(folder)) names.push_back(fs::path(found.path).filename());
  return names;
}

std::string save(const std::string& folder, int64_t step, int ranks, bool columns = false) {
  std::string why_not;
  run_ranks(ranks, [&](std::unique_ptr<Communicator> world) {
    Part part(*world, columns);
    BackgroundSave background(*world, folder, 3);
    ASSERT_EQ(background.reserve(part.shards), "");
    SaveResult result = background.begin(manifest_of(step), part.shards, {});
    background.wait_until_copied();
    std::fill(part.values.begin(), part.values.end(), -1.0f);  // training continues and changes the values
    if (background.in_flight()) result = background.finish();
    if (world->rank() == 0) why_not = result.saved ? "" : result.why_not;
    EXPECT_EQ(result.saved, result.why_not.empty());
    world->barrier();
  });
  return why_not;
}

TEST(BackgroundSave, HoldsWhatWasThereWhenItBegan) {
  std::string hash;
  for (const char* way : {"posix", "mpi"})
    for (const int ranks : {1, 2, 3})
      for (const bool columns : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", way, ranks, columns));
        setenv("CARILLON_CHECKPOINT_IO", way, 1);
        const TemporaryFolder folder;
        EXPECT_EQ(save(folder.path(), 4, ranks, columns), "");
        const std::string path = folder / "step-00000004";
        verify_checkpoint(path);
        const std::string found = read_manifest(path).tensors.at("model/a").hash;
        if (hash.empty()) {  // the hash of a synchronous save, for comparison
          const TemporaryFolder other;
          Part part(*solo_communicator("world"), false);
          ASSERT_TRUE(save_checkpoint(*solo_communicator("world"), other.path(), manifest_of(4), part.shards, 3).saved);
          hash = read_manifest(other / "step-00000004").tensors.at("model/a").hash;
        }
        EXPECT_EQ(found, hash);
        if (ranks > 1) continue;
        setenv("CARILLON_TEST_FAIL", "copying:0:slow", 1);  // a step that does not wait changes what is copied
        EXPECT_EQ(save(folder.path(), 5, ranks, columns), "");
        unsetenv("CARILLON_TEST_FAIL");
        EXPECT_EQ(read_manifest(folder / "step-00000005").tensors.at("model/a").hash, hash);
      }
  unsetenv("CARILLON_CHECKPOINT_IO");
}

TEST(BackgroundSave, IsSeenOnlyOnceItIsWhole) {
  const TemporaryFolder folder;
  const auto world = solo_communicator("world");
  Part part(*world, false);
  std::atomic<int> records = 0;
  {
    BackgroundSave background(*world, folder.path(), 3);
    ASSERT_EQ(background.reserve(part.shards), "");
    for (int64_t step = 1; step <= 2; ++step) {
      EXPECT_FALSE(background.begin(manifest_of(step), part.shards, [&] { ++records; }).saved);
      while (!background.written()) std::this_thread::yield();
      EXPECT_EQ(steps_in(folder.path()).size(), static_cast<size_t>(step - 1)) << "all written, nothing committed";
      EXPECT_EQ(records, step) << "what is said to be before it is durable before it";
      EXPECT_TRUE(background.finish().saved);
      EXPECT_FALSE(background.in_flight());
    }
    (void)background.begin(manifest_of(3), part.shards, {});
  }
  EXPECT_THAT(steps_in(folder.path()), ::testing::ElementsAre("step-00000002", "step-00000001")) << "given up";
  EXPECT_EQ(save(folder.path(), 4, 1), "");
  for (const auto& entry : fs::directory_iterator(folder.path()))
    EXPECT_EQ(entry.path().filename().string().find(".tmp"), std::string::npos) << "left behind";
}

TEST(BackgroundSave, OlderOnesAreGoneOnceTheNextBegins) {
  const TemporaryFolder folder;
  const auto world = solo_communicator("world");
  Part part(*world, false);
  {
    BackgroundSave background(*world, folder.path(), 2);
    ASSERT_EQ(background.reserve(part.shards), "");
    for (int64_t step = 1; step <= 4; ++step) {
      (void)background.begin(manifest_of(step), part.shards, {});
      EXPECT_FALSE(fs::exists(folder / ".del-step-00000001")) << step;
      EXPECT_TRUE(background.finish().saved);
      EXPECT_EQ(steps_in(folder.path()).size(), static_cast<size_t>(std::min<int64_t>(step, 2)));
    }
  }
  EXPECT_THAT(steps_in(folder.path()), ::testing::ElementsAre("step-00000004", "step-00000003"));
  for (const auto& entry : fs::directory_iterator(folder.path()))
    EXPECT_FALSE(entry.path().filename().string().starts_with(".del-")) << entry.path();
}

// A step that waits for the thread would be slowed by a lower priority when the machine runs other work.
TEST(BackgroundSave, TheThreadHasThePriorityOfTheRest) {
  const TemporaryFolder folder;
  const auto world = solo_communicator("world");
  Part part(*world, false);
  BackgroundSave background(*world, folder.path(), 3);
  ASSERT_EQ(background.reserve(part.shards), "");
  const auto priority = [] { return getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid))); };
  std::atomic<int> of_thread = 99;
  (void)background.begin(manifest_of(1), part.shards, [&] { of_thread = priority(); });
  EXPECT_TRUE(background.finish().saved);
  EXPECT_EQ(of_thread, priority());
}

TEST(BackgroundSave, ALateErrorReachesEveryRank) {
  const TemporaryFolder folder;
  EXPECT_EQ(save(folder.path(), 1, 2), "");
  setenv("CARILLON_TEST_FAIL", "tensors_written:1:io", 1);
  std::atomic<int> told = 0;
  run_ranks(2, [&](std::unique_ptr<Communicator> world) {
    Part part(*world, false);
    BackgroundSave background(*world, folder.path(), 3);
    ASSERT_EQ(background.reserve(part.shards), "");
    (void)background.begin(manifest_of(2), part.shards, {});
    try {
      (void)background.finish();
    } catch (const Error& error) {
      told += error.code() == ExitCode::kInputOutput;
    }
  });
  unsetenv("CARILLON_TEST_FAIL");
  EXPECT_EQ(told, 2);
  EXPECT_THAT(steps_in(folder.path()), ::testing::ElementsAre("step-00000001"));
}

// A file-size limit acts as a quota: too small for the metadata, or only for the tensors.
TEST(BackgroundSave, WithoutSpaceItIsLeftOut) {
  for (const rlim_t limit : {rlim_t{100}, rlim_t{1} << 20}) {
    const TemporaryFolder folder;
    EXPECT_EQ(save(folder.path(), 1, 2), "");
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit small{limit, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_THAT(save(folder.path(), 2, 2), ::testing::HasSubstr("File too large")) << limit;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder.path())) names.push_back(entry.path().filename());
    EXPECT_THAT(names, ::testing::UnorderedElementsAre("step-00000001", "latest"));
  }
}

TEST(BackgroundSave, OneThatDiesLeavesTheOlderOnes) {
  for (const char* point : {"folder_made", "tensors_written", "tensors_synced", "manifest_written", "committed"}) {
    const TemporaryFolder folder;
    save(folder.path(), 1, 1);
    EXPECT_EXIT(
        {
          setenv("CARILLON_TEST_FAIL", point, 1);
          save(folder.path(), 2, 1);
        },
        ::testing::KilledBySignal(SIGKILL), "")
        << point;
    EXPECT_EQ(newest_valid_checkpoint(folder.path(), [](const std::string&) {}),
              folder / (std::string(point) == "committed" ? "step-00000002" : "step-00000001"))
        << point;
  }
}

}  // namespace
}  // namespace carillon::testing
