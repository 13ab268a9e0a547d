// A mask cut into pieces (runtime/attention_pieces.h), compared pair by pair with the mask itself.
#include "runtime/attention_pieces.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>
#include <random>

#include "runtime/error.h"

namespace carillon::testing {
namespace {

using Kind = MaskPiece::Kind;

// Exits with the code of the error, like launch/main.cpp. Runs in a process that has not read the environment yet.
TEST(AttentionEdgeDeathTest, IsANumber) {
  const auto read = [](const char* text) {
    setenv("CARILLON_ATTENTION_EDGE", text, 1);
    try {
      std::_Exit(attention_edge() == 32 ? 0 : 1);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s", error.what());
      std::_Exit(static_cast<int>(error.code()));
    }
  };
  EXPECT_EXIT(read("32"), ::testing::ExitedWithCode(0), "");
  for (const char* wrong : {"0", "-3", "32k", "many"})
    EXPECT_EXIT(read(wrong), ::testing::ExitedWithCode(64), "CARILLON_ATTENTION_EDGE is \".*\", in the environment, ");
}

struct Problem {
  std::vector<int64_t> query, first, key;
  int64_t batch = 1;
  bool own = false;
  std::vector<MaskPiece> pieces(int64_t edge) const { return mask_pieces({query, first, key, batch, own}, edge); }
  int64_t rows() const { return static_cast<int64_t>(query.size()); }
  int64_t keys() const { return static_cast<int64_t>(key.size()); }
  bool padding(int64_t b, int64_t row) const { return first_of(b, row) > query[static_cast<size_t>(row)]; }
  int64_t first_of(int64_t b, int64_t row) const { return first[static_cast<size_t>(b * rows() + row)]; }
  bool visible(int64_t b, int64_t row, int64_t k) const {
    const int64_t index = key[static_cast<size_t>(k)];
    return first_of(b, row) <= index && index <= query[static_cast<size_t>(row)];
  }
};

// Checks that every visible pair is in exactly one piece, and that all pairs of a whole piece are visible, except for
// padding rows. Returns the number of whole pieces.
int64_t expect_exact(const Problem& problem, const std::vector<MaskPiece>& pieces, int64_t edge) {
  std::vector<int> times(static_cast<size_t>(problem.rows() * problem.keys()));
  int64_t whole = 0;
  for (const MaskPiece& piece : pieces) {
    whole += piece.kind != Kind::kIntervals ? 1 : 0;
    EXPECT_LE(piece.rows, edge);
    EXPECT_TRUE(piece.kind == Kind::kIntervals || piece.keys <= edge);
    EXPECT_TRUE(piece.kind != Kind::kCausal || piece.rows == piece.keys);
    for (int64_t row = piece.row; row < piece.row + piece.rows; ++row)
      for (int64_t k = piece.key; k < piece.key + piece.keys; ++k) {
        ++times[static_cast<size_t>(row * problem.keys() + k)];
        if (piece.kind == Kind::kIntervals) continue;
        const bool shown = piece.kind == Kind::kFull || k - piece.key <= row - piece.row;
        for (int64_t b = 0; b < problem.batch; ++b)
          EXPECT_TRUE(problem.padding(b, row) || problem.visible(b, row, k) == shown) << row << " on " << k;
      }
  }
  for (int64_t b = 0; b < problem.batch; ++b)
    for (int64_t row = 0; row < problem.rows(); ++row)
      for (int64_t k = 0; k < problem.keys(); ++k) {
        const int count = times[static_cast<size_t>(row * problem.keys() + k)];
        EXPECT_LE(count, 1);
        EXPECT_TRUE(count == 1 || !problem.visible(b, row, k)) << row << " on " << k;
      }
  return whole;
}

// A rank of a zigzag ring of `ranks` with its own keys or a half of another rank's; random documents, window and
// padding.
Problem random_problem(std::mt19937& random) {
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  const int64_t ranks = draw(1, 3), half = draw(3, 20), rank = draw(0, ranks - 1);
  Problem problem;
  problem.batch = draw(1, 2);
  problem.own = draw(0, 1) == 0;
  for (const int64_t chunk : {rank, 2 * ranks - 1 - rank})
    for (int64_t i = 0; i < half; ++i) problem.query.push_back(chunk * half + i);
  if (problem.own) {
    problem.key = problem.query;
  } else {
    problem.key.resize(static_cast<size_t>(half));
    std::iota(problem.key.begin(), problem.key.end(), draw(0, 2 * ranks - 1) * half);
  }
  const int64_t length = 2 * ranks * half;
  for (int64_t b = 0; b < problem.batch; ++b) {
    const int64_t document = draw(0, 2) == 0 ? 0 : draw(0, length), padding = length - draw(0, 1) * draw(0, half),
                  window = draw(0, 2) == 0 ? draw(1, length) : length;
    for (const int64_t index : problem.query)
      problem.first.push_back(index >= padding ? 1 << 20
                                               : std::max(index >= document ? document : 0, index - window + 1));
  }
  return problem;
}

TEST(AttentionPieces, HoldEveryVisiblePairOnce) {
  std::mt19937 random(7);
  int64_t whole = 0, none = 0;
  for (int i = 0; i < 2000; ++i) {
    const Problem problem = random_problem(random);
    const int64_t edge = 1 + static_cast<int64_t>(random() % 9);
    const auto pieces = problem.pieces(edge);
    if (pieces.empty()) {
      ++none;
      continue;
    }
    EXPECT_GT(expect_exact(problem, pieces, edge), 0);
    for (const MaskPiece& piece : pieces) whole += piece.kind != Kind::kIntervals ? 1 : 0;
    if (::testing::Test::HasFailure()) FAIL() << "problem " << i << ", edge " << edge;
  }
  EXPECT_GT(whole, 2000);
  EXPECT_GT(none, 100);
}

TEST(AttentionPieces, ByHand) {
  Problem problem;
  problem.own = true;
  problem.query = problem.key = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  problem.first = {0, 0, 0, 0, 0, 5, 5, 5, 5, 5};  // a document of 5, then another
  const auto pieces = problem.pieces(4);
  // The document of row 5 begins inside the second group of rows; the last two rows see the block before them from its
  // second key on.
  const MaskPiece expected[] = {{0, 4, 0, 4, Kind::kCausal},
                                {4, 4, 0, 8, Kind::kIntervals},
                                {8, 2, 4, 4, Kind::kIntervals},
                                {8, 2, 8, 2, Kind::kCausal}};
  ASSERT_EQ(pieces.size(), std::size(expected));
  for (size_t i = 0; i < pieces.size(); ++i) {
    const MaskPiece &a = pieces[i], &b = expected[i];
    EXPECT_EQ((std::array{a.row, a.rows, a.key, a.keys}), (std::array{b.row, b.rows, b.key, b.keys})) << i;
    EXPECT_EQ(a.kind, b.kind) << i;
  }
}

TEST(AttentionPieces, AWholeOneIsCutIntoWholeOnes) {
  for (const int64_t edge : {1, 3, 4, 10, 99})
    for (const Kind kind : {Kind::kFull, Kind::kCausal}) {
      Problem problem;
      problem.own = kind == Kind::kCausal;
      problem.key = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      problem.query = kind == Kind::kCausal ? problem.key : std::vector<int64_t>{10, 11, 12, 13, 14, 15, 16};
      problem.first.assign(problem.query.size(), 0);
      const auto parts = cut({0, problem.rows(), 0, problem.keys(), kind}, edge);
      EXPECT_EQ(expect_exact(problem, parts, edge), static_cast<int64_t>(parts.size()));
    }
  const auto moved = cut({100, 6, 200, 6, Kind::kCausal}, 4);
  ASSERT_EQ(moved.size(), 3u);
  EXPECT_EQ((std::array{moved[1].row, moved[1].rows, moved[1].key, moved[1].keys}),
            (std::array<int64_t, 4>{104, 2, 200, 4}));
  EXPECT_EQ(moved[1].kind, Kind::kFull);
}

}  // namespace
}  // namespace carillon::testing
