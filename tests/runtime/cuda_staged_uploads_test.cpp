// Uploads through reused page-locked memory, on an emulation that runs work only when it is waited for (the test's
// entry in CMakeLists.txt sets CARILLON_EMULATION).
#include <gtest/gtest.h>

#include <cstdint>

namespace carillon::testing {

int staged_uploads_kNone(int count, int64_t words);
int staged_uploads_kStagingNotWaitedFor(int count, int64_t words);

namespace {

constexpr int64_t kBlockWords = int64_t{2} << 20;  // StagedUploads::kBlockBytes

TEST(StagedUploads, EveryPieceArrivesAsSent) {
  EXPECT_EQ(staged_uploads_kNone(9, kBlockWords), 0);  // one block each; every block is used twice, one a third time
  EXPECT_EQ(staged_uploads_kNone(14, kBlockWords / 3 + 1), 0);  // two per block, the rest of it unused
  EXPECT_EQ(staged_uploads_kNone(1000, 7), 0);                  // all in one block
}

TEST(StagedUploads, ABlockFilledAgainTooEarlyIsSeen) {
  EXPECT_GT(staged_uploads_kStagingNotWaitedFor(9, kBlockWords), 0);
  EXPECT_EQ(staged_uploads_kStagingNotWaitedFor(4, kBlockWords), 0);  // no block is filled twice
}

}  // namespace
}  // namespace carillon::testing
