#include "data/corpus/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "runtime/error.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

std::vector<int64_t> begins(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> begin(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), begin.begin() + 1);
  return begin;
}

// Sequences in the notation of the header: one letter per token, '.' for padding, '|' between pieces of one document.
std::vector<std::string> drawn(const std::vector<int64_t>& lengths, PackingMode mode, int64_t sequence_length) {
  const auto begin = begins(lengths);
  const Packing packing = pack(begin, mode, sequence_length);
  std::vector<std::string> rows;
  for (int64_t s = 0; s < packing.sequences(); ++s) {
    std::string row;
    for (const Segment& segment : packing.sequence(s)) {
      const auto document = std::upper_bound(begin.begin(), begin.end(), segment.begin) - begin.begin() - 1;
      row += std::string(static_cast<size_t>(segment.length), static_cast<char>('a' + document));
      EXPECT_LE(segment.begin + segment.length, begin[document + 1]) << "a segment crosses documents";
    }
    row.resize(static_cast<size_t>(sequence_length), '.');
    rows.push_back(row);
  }
  return rows;
}

using ::testing::ElementsAre;

TEST(Packing, TheHeadersTable) {
  const std::vector<int64_t> lengths = {3, 6, 2, 5};
  EXPECT_THAT(drawn(lengths, PackingMode::kNone, 8), ElementsAre("aaa.....", "bbbbbb..", "cc......", "ddddd..."));
  EXPECT_THAT(drawn(lengths, PackingMode::kWhole, 8), ElementsAre("aaa.....", "bbbbbbcc", "ddddd..."));
  EXPECT_THAT(drawn(lengths, PackingMode::kBestFit, 8), ElementsAre("bbbbbbcc", "aaaddddd"));
  EXPECT_THAT(drawn(lengths, PackingMode::kSplit, 8), ElementsAre("aaabbbbb", "bccddddd"));
}

TEST(Packing, LongDocumentsAreCutAndCounted) {
  const std::vector<int64_t> lengths = {9, 1, 4, 8};

  EXPECT_THAT(drawn(lengths, PackingMode::kWhole, 4), ElementsAre("aaaa", "aaaa", "ab..", "cccc", "dddd", "dddd"));
  EXPECT_THAT(drawn(lengths, PackingMode::kNone, 4),
              ElementsAre("aaaa", "aaaa", "a...", "b...", "cccc", "dddd", "dddd"));
  const Packing packing = pack(begins(lengths), PackingMode::kWhole, 4);
  EXPECT_EQ(packing.counts.documents, 4);
  EXPECT_EQ(packing.counts.documents_cut, 2);
  EXPECT_EQ(packing.counts.pieces, 7);
  EXPECT_EQ(packing.counts.tokens, 22);
  EXPECT_EQ(packing.counts.padded_tokens, 2);
}

TEST(Packing, SplitCutsAtTheSequencesEnd) {
  EXPECT_THAT(drawn({5, 9, 1}, PackingMode::kSplit, 4), ElementsAre("aaaa", "abbb", "bbbb", "bbc."));
  const Packing packing = pack(begins({5, 9, 1}), PackingMode::kSplit, 4);
  EXPECT_THAT(packing.segments,
              ElementsAre(Segment{0, 4}, Segment{4, 1}, Segment{5, 3}, Segment{8, 4}, Segment{12, 2}, Segment{14, 1}));
}

TEST(Packing, NoDocumentsNoSequences) {
  for (PackingMode mode : {PackingMode::kNone, PackingMode::kWhole, PackingMode::kBestFit, PackingMode::kSplit})
    EXPECT_EQ(pack(std::vector<int64_t>{0}, mode, 8).sequences(), 0);
}

// Many random documents (more than one window): every token occurs exactly once, no sequence is overfull, and best_fit
// pads less than file order.
TEST(Packing, NothingIsLostOrDoubled) {
  std::vector<int64_t> lengths;
  for (uint64_t i = 0; i < 10000; ++i) lengths.push_back(1 + static_cast<int64_t>(random_below(300, 7, 0, i)));
  const auto begin = begins(lengths);
  std::vector<int64_t> padded;
  for (PackingMode mode : {PackingMode::kNone, PackingMode::kWhole, PackingMode::kBestFit, PackingMode::kSplit}) {
    const Packing packing = pack(begin, mode, 256);
    std::vector<char> seen(static_cast<size_t>(begin.back()), 0);
    for (int64_t s = 0; s < packing.sequences(); ++s) {
      int64_t used = 0;
      for (const Segment& segment : packing.sequence(s)) {
        used += segment.length;
        for (int64_t i = 0; i < segment.length; ++i) ++seen[static_cast<size_t>(segment.begin + i)];
      }
      ASSERT_LE(used, 256);
      ASSERT_GT(used, 0);
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), begin.back());
    padded.push_back(packing.counts.padded_tokens);
  }
  EXPECT_GT(padded[0], padded[1]);
  EXPECT_LT(10 * padded[2], padded[1]);
  EXPECT_LT(padded[3], 256);
}

}  // namespace
}  // namespace carillon
