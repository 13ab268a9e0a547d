// Uploads through page-locked memory that is filled again and again, on an emulation that runs nothing before somebody
// waits for it (CARILLON_EMULATION of the test's entry in CMakeLists.txt).
#include <gtest/gtest.h>

#include <cstdint>

namespace carillon::testing {

int staged_uploads_kNone(int count, int64_t words);
int staged_uploads_kStagingNotWaitedFor(int count, int64_t words);

namespace {

constexpr int64_t kBlockWords = int64_t{2} << 20;  // StagedUploads::kBlockBytes

TEST(StagedUploads, EveryPieceArrivesAsSent) {
  EXPECT_EQ(staged_uploads_kNone(9, kBlockWords), 0);           // a block each, each block used twice and once more
  EXPECT_EQ(staged_uploads_kNone(14, kBlockWords / 3 + 1), 0);  // two to a block, its rest unused
  EXPECT_EQ(staged_uploads_kNone(1000, 7), 0);                  // all in one block
}

TEST(StagedUploads, ABlockFilledAgainTooEarlyIsSeen) {
  EXPECT_GT(staged_uploads_kStagingNotWaitedFor(9, kBlockWords), 0);
  EXPECT_EQ(staged_uploads_kStagingNotWaitedFor(4, kBlockWords), 0);  // nothing is filled twice
}

}  // namespace
}  // namespace carillon::testing
