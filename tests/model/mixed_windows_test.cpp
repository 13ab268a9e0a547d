// Mixed windows (LongRoPE2, 2502.20082): documents in one packed sequence, each with the list for its own length, give
// the same results as alone in a sequence with that list; on every layout, forward and backward.
#include <gtest/gtest.h>

#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

constexpr int64_t kTrained = 10;

ModelConfig longrope(bool mixed, const std::string& more = "") {
  ModelConfig config = tiny_config();
  static_cast<ModelRope&>(config) = merge_model_rope(
      config,
      Json::parse(fmt::format(R"({{"type": "longrope", "factor": 4, "original_max_position_embeddings": {},
        "short_factor": [1, 1.5, 2, 1], "long_factor": [1, 2, 5, 8], "mixed_windows": {}{}}})",
                              kTrained, mixed, more)),
      "test");
  return config;
}

TinyRun packed_run(const std::vector<int64_t>& documents) {
  TinyRun run;
  run.config = longrope(true);
  run.zero = 0;
  int64_t length = 0;
  for (const int64_t document : documents) length += document;
  run.sequences = tiny_sequences(2, length, 131, documents);
  return run;
}

TEST(MixedWindows, EachDocumentTurnsByItsOwnList) {
  // At the border, beyond it, and well below it; the sequence itself is long.
  const std::vector<int64_t> documents{kTrained, 3, kTrained + 1, 16};
  TinyRun run = packed_run(documents);
  const TinyResult packed = run_tiny(run);
  TinyRun all_long = run;
  all_long.config = longrope(false);
  const TinyResult by_sequence = run_tiny(all_long);
  std::map<std::string, std::vector<double>> gradients;
  for (size_t s = 0; s < run.sequences.size(); ++s) {
    int64_t begin = 0;
    for (const int64_t document : documents) {
      TinyRun alone = run;
      // A sequence needs at least two tokens per rank, which even the shortest document has.
      TinySequence sequence;
      sequence.tokens.assign(run.sequences[s].tokens.begin() + begin,
                             run.sequences[s].tokens.begin() + begin + document);
      sequence.document_lengths = {document};
      alone.sequences = {sequence};
      alone.config = longrope(false, fmt::format(R"(, "length": {})", document));
      const TinyResult one = run_tiny(alone);
      double apart = 0;
      for (int64_t i = 0; i < document; ++i) {
        const auto at = static_cast<size_t>(begin + i);
        EXPECT_NEAR(packed.token_loss[s][at], one.token_loss[0][static_cast<size_t>(i)], 1e-12) << document << " " << i;
        apart = std::max(apart, std::abs(packed.token_loss[s][at] - by_sequence.token_loss[s][at]));
      }
      // The choice of the list must make a difference.
      if (document <= kTrained) {
        EXPECT_GT(apart, 1e-6) << document;
      } else {
        EXPECT_LT(apart, 1e-12) << document;
      }
      for (const auto& [name, values] : one.gradients) {
        gradients[name].resize(values.size());
        for (size_t i = 0; i < values.size(); ++i) gradients[name][i] += values[i];
      }
      begin += document;
    }
  }
  for (const auto& [name, values] : packed.gradients)
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], gradients.at(name)[i], 1e-9) << name << i;
}

TEST(MixedWindows, EveryLayoutTurnsAlike) {
  TinyRun run = packed_run({kTrained, 3, kTrained + 1, 13});
  const TinyResult one = run_tiny(run);
  for (const LayoutKind layout : {LayoutKind::kZigzag, LayoutKind::kContiguous})
    for (const GridShape grid :
         {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 4, 1}, GridShape{1, 1, 2}, GridShape{1, 2, 2}}) {
      run.layout = layout;
      run.grid = grid;
      const TinyResult many = run_tiny(run);
      EXPECT_NEAR(many.loss[0], one.loss[0], 1e-12 * one.loss[0]);
      EXPECT_NEAR(many.gradient_norm[0], one.gradient_norm[0], 1e-10 * one.gradient_norm[0]);
    }
}

TEST(MixedWindows, BelongsToLongRopeAndToNoFixedLength) {
  const auto refused = [](const char* settings) {
    try {
      parse_rope_config(Json::parse(settings), 64, "test", ExitCode::kUsage);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(refused(R"({"type": "yarn", "factor": 4, "mixed_windows": true})").find("mixed_windows"),
            std::string::npos);
  EXPECT_NE(refused(R"({"type": "longrope", "factor": 4, "short_factor": [1], "long_factor": [2],
                        "mixed_windows": true, "length": 9})")
                .find("length"),
            std::string::npos);
  EXPECT_EQ(refused(R"({"type": "yarn", "factor": 4, "mixed_windows": false})"), "");
  // Another type drops the lists and the key that selects between them.
  EXPECT_FALSE(merge_model_rope(longrope(true), Json::parse(R"({"type": "linear", "factor": 2})"), "test")
                   .rope.settings.contains("mixed_windows"));
}

}  // namespace
}  // namespace carillon::testing
