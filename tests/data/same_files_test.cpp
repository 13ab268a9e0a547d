// Ranks that see different files at the same path, as on nodes with local disks. Each rank is a thread with a separate
// working folder, and the paths are relative.
#include "data/files/same_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>

#include "parallel/transport/thread_communicator.h"
#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct SameFiles : ::testing::Test {
  TemporaryFolder folder;
  std::mutex mutex;
  std::vector<std::string> said;  // the messages of the ranks that failed
  std::vector<FileContent> contents;

  // files[r]: the content of data.jsonl on rank r; empty: no file.
  void compare(const std::vector<std::string>& files, ExitCode expected) {
    for (size_t rank = 0; rank < files.size(); ++rank) {
      const std::string own = folder / std::to_string(rank);
      std::filesystem::remove_all(own);
      std::filesystem::create_directory(own);
      if (!files[rank].empty()) std::ofstream(own + "/data.jsonl", std::ios::binary) << files[rank];
    }
    said.clear(), contents.clear();
    run_ranks(static_cast<int>(files.size()), [&](std::unique_ptr<Communicator> world) {
      ASSERT_EQ(unshare(CLONE_FS), 0);
      ASSERT_EQ(chdir((folder / std::to_string(world->rank())).c_str()), 0);
      try {
        const auto found = agree_on_content(*world, {"data.jsonl"});
        require_same_files(*world, {"data.jsonl"});
        const std::lock_guard lock(mutex);
        contents.push_back(found.at(0));
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        EXPECT_EQ(error.code(), expected);
        said.emplace_back(error.what());
      }
    });
  }
};

TEST_F(SameFiles, CopiesAreTheSame) {
  const std::string text(10'000'000, 'x');  // more than one chunk
  compare({text, text, text}, ExitCode::kDone);
  ASSERT_EQ(contents.size(), 3u);
  EXPECT_EQ(contents[0].size, 10'000'000);
  EXPECT_EQ(contents[0].hash, contents[2].hash);
  const std::string hash = contents[0].hash;
  compare({text}, ExitCode::kDone);
  EXPECT_EQ(contents.at(0).hash, hash) << "however many read it";
}

TEST_F(SameFiles, OneOtherByteIsRefusedOnEveryRank) {
  const std::string text(10'000'000, 'x');
  for (const size_t at : {size_t{0}, text.size() - 1}) {
    std::string other = text;
    other[at] = 'y';
    compare({text, text, other}, ExitCode::kBadInput);
    ASSERT_EQ(said.size(), 3u);
    EXPECT_THAT(said[0], AllOf(HasSubstr("rank 0 ("), HasSubstr("rank 2 ("), HasSubstr("data.jsonl")));
  }
  // The same chunks in another order are different content.
  std::string first = std::string(4 << 20, 'a') + std::string(4 << 20, 'b');
  compare({first, std::string(first.rbegin(), first.rend())}, ExitCode::kBadInput);
  EXPECT_EQ(said.size(), 2u);
}

TEST_F(SameFiles, OneThatIsMissingIsNamedWithItsHost) {
  compare({"x", ""}, ExitCode::kMissingInput);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_THAT(said[0], HasSubstr("rank 1 ("));
}

TEST_F(SameFiles, TextsAreComparedToo) {
  run_ranks(3, [&](std::unique_ptr<Communicator> world) {
    require_same_text(*world, "the words", "same");
    try {
      require_same_text(*world, "the words", world->rank() == 1 ? "b" : "a", "detail");
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 1"), HasSubstr("the words"), HasSubstr("detail")));
    }
  });
}

// A file that was modified since, or replaced by one of the same size and time.
TEST(FileContent, AChangeSinceIsSeen) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "some bytes");
  const FileContent content = agree_on_content(*solo_communicator("world"), {path})[0];
  EXPECT_NO_THROW(require_unchanged(content));
  const auto time = std::filesystem::last_write_time(path);
  const std::string other = folder.write("b", "SOME BYTES");
  std::filesystem::last_write_time(other, time);
  std::filesystem::rename(other, path);
  try {
    require_unchanged(content);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
  }
}

}  // namespace
}  // namespace carillon::testing
