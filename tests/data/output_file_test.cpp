#include "data/files/output_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon {
namespace {

using testing::read_whole;
using testing::TemporaryFolder;

int files_in(const TemporaryFolder& folder) {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++count;
  return count;
}

TEST(OutputFile, AppearsOnlyWhenCommitted) {
  TemporaryFolder folder;
  folder.write("a", "old");
  {
    OutputFile file(folder / "a");
    file.write("new text");
    file.write_at(0, "NEW");
    EXPECT_EQ(read_whole(folder / "a"), "old");
    file.commit();
  }
  EXPECT_EQ(read_whole(folder / "a"), "NEW text");

  { OutputFile(folder / "a").write("never"); }
  EXPECT_EQ(read_whole(folder / "a"), "NEW text");
  EXPECT_EQ(files_in(folder), 1);
}

TEST(OutputFile, ErrorsKeepTheirExitCodes) {
  TemporaryFolder folder;
  try {
    OutputFile file(folder / "no/such/file");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
    EXPECT_NE(std::string(error.what()).find("no/such/file"), std::string::npos);
  }
}

// A device is written directly, never replaced by a file, and its "no space left" is error 74.
TEST(OutputFile, FullDevice) {
  OutputFile file("/dev/full");
  file.write("x");
  try {
    file.commit();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputOutput);
  }
  struct stat status;
  ASSERT_EQ(::stat("/dev/full", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST(OutputFile, FollowsALink) {
  TemporaryFolder folder;
  folder.write("target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  OutputFile file(folder / "link");
  file.write("new");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_whole(folder / "target"), "new");
}

}  // namespace
}  // namespace carillon
