// Paired differences: documents are matched by what was scored in them, not by their place.
#include "launch/evaluate/comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace carillon {
namespace {

UnitLosses losses(size_t documents, uint64_t seed, double shift) {
  std::mt19937_64 draw(seed);
  std::normal_distribution<double> hard(3, 1);  // a document's difficulty for both settings, ten times the difference
  UnitLosses result;
  result.position_bins = {{0, 8}, {8, 16}};
  for (size_t i = 0; i < documents; ++i) {
    const auto tokens = static_cast<int64_t>(4 + i % 5);
    const double loss = hard(draw) + shift * (1 + 0.1 * static_cast<double>(i % 3));
    LossUnit unit;
    for (int64_t token = 0; token < tokens; ++token) unit.all.add(loss, 1), unit.by_position[0].add(loss, 1);
    result.documents.push_back("document " + std::to_string(i));
    result.units.push_back(unit);
  }
  return result;
}

void shuffle(UnitLosses& of) {
  std::vector<size_t> order(of.units.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = (7 * i + 3) % order.size();
  UnitLosses shuffled = of;
  for (size_t i = 0; i < order.size(); ++i) {
    shuffled.documents[i] = of.documents[order[i]];
    shuffled.units[i] = of.units[order[i]];
  }
  of = shuffled;
}

TEST(Comparison, DocumentsAreMatchedByWhatTheyHold) {
  const UnitLosses baseline = losses(20, 1, 0);
  UnitLosses setting = losses(20, 1, 0.1);
  const Comparison straight = compare_losses({{&setting, &baseline}});
  ASSERT_EQ(straight.refusal, "");
  EXPECT_NEAR(straight.all.mean, 0.11, 0.005);
  EXPECT_LT(*straight.all.standard_error, 0.01);
  shuffle(setting);
  const Comparison shuffled = compare_losses({{&setting, &baseline}});
  EXPECT_DOUBLE_EQ(shuffled.all.mean, straight.all.mean);
  EXPECT_NEAR(*shuffled.all.standard_error, *straight.all.standard_error, 1e-15);
  ASSERT_EQ(shuffled.by_position.size(), 1u);
  EXPECT_NEAR(*shuffled.by_position[0].difference.standard_error, *straight.all.standard_error, 1e-15);
  // If matched by place alone, the spread of the documents would hide the difference; this shows that the test can
  // tell.
  setting.documents = baseline.documents;
  EXPECT_GT(*compare_losses({{&setting, &baseline}}).all.standard_error, 20 * *straight.all.standard_error);
}

TEST(Comparison, OfEqualLengthsTheErrorIsTheDeviationOverTheRootOfN) {
  UnitLosses setting, baseline;
  const std::vector<double> differences = {0.5, -0.25, 0.125, 1};
  for (size_t i = 0; i < differences.size(); ++i) {
    LossUnit one, other;
    for (int64_t token = 0; token < 6; ++token) one.all.add(2 + differences[i], 1), other.all.add(2, 1);
    setting.units.push_back(one), baseline.units.push_back(other);
    setting.documents.push_back("document " + std::to_string(i));
  }
  baseline.documents = setting.documents;
  const Difference found = compare_losses({{&setting, &baseline}}).all;
  EXPECT_DOUBLE_EQ(found.mean, 0.34375);
  double squares = 0;
  for (const double difference : differences) squares += std::pow(difference - 0.34375, 2);
  EXPECT_NEAR(*found.standard_error, std::sqrt(squares / 3) / 2, 1e-15);
  EXPECT_EQ(found.units, 4);
  EXPECT_EQ(found.tokens, 24);
}

TEST(Comparison, OtherTokensAreRefused) {
  UnitLosses baseline = losses(5, 1, 0), setting = losses(5, 1, 0.1);
  baseline.tokenizer = setting.tokenizer = "fedcba9876543210";
  setting.documents[3] = "something else";
  EXPECT_EQ(compare_losses({{&setting, &baseline}}).refusal, "they scored other tokens");
  setting.tokenizer = "0123456789abcdef";
  EXPECT_NE(compare_losses({{&setting, &baseline}}).refusal.find("tokenizers differ"), std::string::npos);
  // Ids of another tokenizer are other tokens even if the numbers are equal.
  UnitLosses one = losses(5, 1, 0), other = one;
  one.tokenizer = "0123456789abcdef", other.tokenizer = "fedcba9876543210";
  EXPECT_NE(compare_losses({{&one, &other}}).refusal.find("tokenizers differ"), std::string::npos);
  other.tokenizer = "";
  EXPECT_EQ(compare_losses({{&one, &other}}).refusal, "");
  // A loss that is not finite is refused, also after it was written and read.
  other.units[2].all.loss = std::numeric_limits<double>::infinity();
  const UnitLosses read = UnitLosses::parse(Json::parse(other.json().dump()));
  for (const UnitLosses* infinite : std::initializer_list<const UnitLosses*>{&other, &read})
    EXPECT_EQ(compare_losses({{infinite, &one}}).refusal, "a loss is not finite");
  const UnitLosses fewer = losses(4, 1, 0.1);
  EXPECT_NE(compare_losses({{&fewer, &baseline}}).refusal, "");
  // A document that occurs twice counts as two documents.
  UnitLosses twice = losses(5, 1, 0), once = twice;
  twice.documents[4] = twice.documents[0];
  EXPECT_NE(compare_losses({{&twice, &once}}).refusal, "");
  once.documents[4] = once.documents[0];
  EXPECT_EQ(compare_losses({{&twice, &once}}).refusal, "");
}

TEST(Comparison, NeighboursThatCorrelateAreJoined) {
  std::mt19937_64 draw(3);
  std::normal_distribution<double> noise(0, 1);
  for (const bool correlated : {false, true}) {
    UnitLosses setting, baseline;
    setting.documents = baseline.documents = {"book"};
    double slow = 0;
    for (int i = 0; i < 512; ++i) {
      slow = correlated ? 0.95 * slow + noise(draw) : noise(draw);
      LossUnit one, other;
      for (int token = 0; token < 256; ++token) one.all.add(3 + 0.01 * slow, 1), other.all.add(3, 1);
      setting.units.push_back(one);
      baseline.units.push_back(other);
    }
    const Comparison found = compare_losses({{&setting, &baseline}});
    if (correlated)
      EXPECT_GE(512 / found.all.units, 16) << found.unit;
    else
      EXPECT_EQ(found.unit, "blocks of 1024 tokens");
  }
}

TEST(Comparison, LossesByUnitComeBackAsTheyWere) {
  const UnitLosses before = losses(6, 2, 0.3);
  const UnitLosses after = UnitLosses::parse(Json::parse(before.json().dump()));
  EXPECT_EQ(after.json(), before.json());
  EXPECT_EQ(compare_losses({{&before, &after}}).all.mean, 0);
  // A single unit has a mean but no standard error.
  const UnitLosses one = losses(1, 2, 0.3), base = losses(1, 2, 0);
  EXPECT_FALSE(compare_losses({{&one, &base}}).all.standard_error.has_value());
}

}  // namespace
}  // namespace carillon
