#include "parallel/context/sequence_layout.h"

#include <gtest/gtest.h>

#include <set>

#include "runtime/error.h"

namespace carillon::testing {
namespace {

TEST(SequenceLayout, ZigzagOfTheHeader) {
  const SequenceLayout layout(LayoutKind::kZigzag, 8, 2, 1);
  EXPECT_EQ(layout.indices(0), (std::vector<int64_t>{0, 1, 6, 7}));
  EXPECT_EQ(layout.indices(1), (std::vector<int64_t>{2, 3, 4, 5}));
}

TEST(SequenceLayout, EveryTokenHasOnePlace) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous})
    for (const int cp : {1, 2, 3, 5, 8})
      for (const int tp : {1, 2, 3}) {
        const int64_t length = 2 * cp + 7;
        const SequenceLayout layout(kind, length, cp, tp);
        EXPECT_GE(layout.padded(), length);
        EXPECT_LT(layout.padded(), length + 2 * cp * tp);
        EXPECT_EQ(layout.local() % (2 * tp), 0);
        std::set<int64_t> seen;
        for (int rank = 0; rank < cp; ++rank) {
          int64_t before = -1;
          for (int64_t i = 0; i < layout.local(); ++i) {
            const int64_t index = layout.index_of(rank, i);
            EXPECT_GT(index, before) << "local order is increasing";
            before = index;
            seen.insert(index);
            EXPECT_EQ(layout.place_of(index).cp_rank, rank);
            EXPECT_EQ(layout.place_of(index).local, i);
          }
        }
        EXPECT_EQ(static_cast<int64_t>(seen.size()), layout.padded());
      }
}

// Causal work, the number of keys seen by the rows of each rank: zigzag gives every rank the same.
TEST(SequenceLayout, ZigzagBalancesCausalWork) {
  for (const int cp : {2, 3, 4, 8}) {
    const SequenceLayout layout(LayoutKind::kZigzag, 16 * cp, cp, 1);
    std::set<int64_t> work;
    for (int rank = 0; rank < cp; ++rank) {
      int64_t keys = 0;
      for (const int64_t index : layout.indices(rank)) keys += index + 1;
      work.insert(keys);
    }
    EXPECT_EQ(work.size(), 1u);
  }
}

TEST(SequenceLayout, ShardsAndPads) {
  const SequenceLayout layout(LayoutKind::kZigzag, 5, 2, 1);  // padded to 8
  std::vector<int64_t> whole{10, 11, 12, 13, 14, 20, 21, 22, 23, 24}, local(8);
  layout.shard(Tensor::of(local, {2, 4}), Tensor::of(whole, {2, 5}), 0, -1);
  EXPECT_EQ(local, (std::vector<int64_t>{10, 11, -1, -1, 20, 21, -1, -1}));
  layout.shard(Tensor::of(local, {2, 4}), Tensor::of(whole, {2, 5}), 1, -1);
  EXPECT_EQ(local, (std::vector<int64_t>{12, 13, 14, -1, 22, 23, 24, -1}));
}

TEST(SequenceLayout, TooShortIsRefusedWithTheNumbers) {
  try {
    SequenceLayout(LayoutKind::kZigzag, 7, 4, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("at least 8"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace carillon::testing
