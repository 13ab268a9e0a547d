// Frequencies of every scaling against independently computed values (shared reference "methods", sections 1 and 2),
// and the guarantees of Resonance: values that repeat bit for bit and a feature gap of exactly zero (Wang et al., 2024,
// theorem 1).
#include "model/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "model/rope_report.h"

namespace carillon {
namespace {

RopeTable table_of(const char* settings, int64_t trained, int64_t head_dim = 128, int64_t length = 1) {
  return make_rope_table(parse_rope_config(Json::parse(settings), trained, "test", ExitCode::kUsage), head_dim, length);
}

void expect_frequencies(const RopeTable& table, const std::map<size_t, double>& expected) {
  for (const auto& [pair, value] : expected)
    EXPECT_NEAR(table.inverse_frequency.at(pair) / value, 1, 1e-11) << "pair " << pair;
}

TEST(Rope, FrequenciesOfEveryType) {
  expect_frequencies(table_of("{}", 4096), {{0, 1},
                                            {1, 0.86596432336},
                                            {2, 0.749894209332},
                                            {10, 0.237137370566},
                                            {20, 0.056234132519},
                                            {32, 0.01},
                                            {63, 0.000115478198469}});
  expect_frequencies(table_of(R"({"type": "linear", "factor": 8})", 4096), {{32, 0.00125}});
  expect_frequencies(
      table_of(R"({"type": "ntk", "factor": 8})", 4096),
      {{0, 1}, {1, 0.837848001919}, {20, 0.0290606126678}, {32, 0.00347766404811}, {63, 1.44347748086e-05}});
  expect_frequencies(table_of(R"({"type": "yarn", "factor": 8})", 4096), {{20, 0.056234132519},
                                                                          {21, 0.0470579194992},
                                                                          {33, 0.0048710493189},
                                                                          {45, 0.000244315266154},
                                                                          {46, 0.00016669017902},
                                                                          {63, 1.44347748086e-05}});
  expect_frequencies(table_of(R"({"type": "yarn", "factor": 16})", 4096),
                     {{21, 0.046940859998}, {40, 0.000881788962932}});
  expect_frequencies(table_of(R"({"type": "yarn", "factor": 8, "yarn_blend": "wavelength"})", 4096),
                     {{21, 0.0383671383464}, {33, 0.00192436516302}, {45, 0.000199194476008}});
  expect_frequencies(table_of(R"({"type": "yarn", "factor": 8, "truncate": false})", 4096),
                     {{21, 0.0485985223063}, {33, 0.00486654418795}, {45, 0.000193994851431}});
  expect_frequencies(table_of(R"({"type": "ntk_by_parts", "factor": 8})", 4096),
                     {{21, 0.0483467307685}, {33, 0.00221786270918}, {45, 0.000192659289498}});
  expect_frequencies(
      table_of(R"({"type": "llama3", "base": 5e5, "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                                  "original_max_position_embeddings": 8192})",
               131072),
      {{28, 0.00321144599475},
       {29, 0.0021665707635},
       {34, 0.000178507812768},
       {35, 9.55621235396e-05},
       {63, 3.06892598891e-07}});
  const RopeTable partial = table_of(R"({"type": "proportional", "partial_rotary_factor": 0.75})", 4096);
  expect_frequencies(partial, {{47, std::pow(1e4, -94.0 / 128)}});
  EXPECT_EQ(partial.inverse_frequency[48], 0);
  EXPECT_EQ(partial.inverse_frequency.size(), 64u);
}

TEST(Rope, DynamicFollowsTheLength) {
  const auto base_of = [](const char* settings, int64_t length) {
    const RopeTable table = table_of(settings, 4096, 128, length);
    return std::pow(table.inverse_frequency[32], -2.0);  // pair 32 of 64: b^(-1/2)
  };
  EXPECT_NEAR(base_of(R"({"type": "dynamic", "factor": 2})", 100), 1e4, 1e-6);
  EXPECT_NEAR(base_of(R"({"type": "dynamic", "factor": 2})", 8192), 30527.7367488, 1e-6);
  EXPECT_NEAR(base_of(R"({"type": "dynamic", "factor": 2})", 16384), 72195.8600865, 1e-6);
  EXPECT_NEAR(base_of(R"({"type": "dynamic", "factor": 8})", 32768), 607779.27273, 1e-4);
  EXPECT_NEAR(base_of(R"({"type": "dynamic", "factor": 8, "length": 32768})", 1), 607779.27273, 1e-4);
}

TEST(Rope, LongRopeTakesItsListByLength) {
  const char* settings = R"({"type": "su", "short_factor": [1, 2], "long_factor": [4, 8], "factor": 32,
                             "original_max_position_embeddings": 4096})";
  expect_frequencies(table_of(settings, 131072, 4, 4096), {{0, 1}, {1, 0.005}});
  expect_frequencies(table_of(settings, 131072, 4, 4097), {{0, 0.25}, {1, 0.00125}});
  EXPECT_NEAR(table_of(settings, 131072, 4).attention_factor, 1.190238071424, 1e-12);
  EXPECT_THROW(table_of(settings, 131072, 8), Error);
}

TEST(Rope, AttentionFactor) {
  const std::map<int, double> expected = {{2, 1.069314718056},  {4, 1.138629436112},  {8, 1.207944154168},
                                          {16, 1.277258872224}, {32, 1.346573590280}, {64, 1.415888308336}};
  for (const auto& [factor, value] : expected)
    EXPECT_NEAR(table_of(fmt::format(R"({{"type": "yarn", "factor": {}}})", factor).c_str(), 4096).attention_factor,
                value, 1e-12);
  EXPECT_EQ(
      table_of(R"({"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707})", 4096).attention_factor,
      1);
  EXPECT_EQ(table_of(R"({"type": "yarn", "factor": 8, "attention_factor": 1.5})", 4096).attention_factor, 1.5);
  EXPECT_EQ(table_of(R"({"type": "linear", "factor": 8})", 4096).attention_factor, 1);
}

TEST(Rope, YarnRampEnds) {
  struct Row {
    int64_t width;
    double base;
    int64_t trained;
    double fast;
    double low, high;
  };
  for (const Row& row : {Row{128, 1e4, 4096, 32, 20, 46},
                         {128, 1e4, 2048, 32, 16, 41},
                         {128, 5e5, 8192, 32, 18, 35},
                         {128, 1e6, 32768, 32, 23, 40},
                         {64, 1e4, 4096, 32, 10, 23},
                         {64, 1e4, 64, 32, 0, 9},
                         {64, 1e4, 64, 2, 5, 9},
                         {64, 1e4, 257, 2, 10, 13},
                         {64, 1.5e5, 4096, 32, 8, 18}}) {
    RopeConfig config;
    config.base = row.base;
    config.original_max_position_embeddings = row.trained;
    config.beta_fast = row.fast;
    const YarnRamp ramp = yarn_ramp(config, row.width);
    EXPECT_EQ(ramp.low, row.low) << row.width << ' ' << row.base << ' ' << row.trained;
    EXPECT_EQ(ramp.high, row.high) << row.width << ' ' << row.base << ' ' << row.trained;
  }
}

using testing::ElementsAre;
using testing::ElementsAreArray;

std::vector<int64_t> tail(const std::vector<int64_t>& all, size_t begin) { return {all.begin() + begin, all.end()}; }

TEST(Resonance, IntegerWavelengths) {
  const std::vector<int64_t> plain = {
      6,    7,    8,    10,   11,    13,    15,    17,    20,    23,    26,    31,    35,    41,    47,    54,
      63,   73,   84,   97,   112,   129,   149,   172,   199,   229,   265,   306,   353,   408,   471,   544,
      628,  726,  838,  968,  1117,  1290,  1490,  1721,  1987,  2294,  2650,  3060,  3533,  4080,  4712,  5441,
      6283, 7256, 8379, 9676, 11173, 12903, 14900, 17206, 19869, 22945, 26496, 30597, 35333, 40802, 47117, 54410};
  EXPECT_THAT(table_of(R"({"resonance": true})", 4096).period, ElementsAreArray(plain));
  const RopeTable yarn4 = table_of(R"({"type": "resonance_yarn", "factor": 4})", 4096);
  EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + 21, yarn4.period.begin()));
  EXPECT_THAT(tail(yarn4.period, 21),
              ElementsAre(133, 158, 188, 225, 268, 320, 383, 459, 551, 662, 797, 961, 1161, 1405, 1706, 2075, 2532,
                          3099, 3807, 4696, 5820, 7252, 9092, 11483, 14632, 18847, 21764, 25133, 29023, 33515, 38703,
                          44693, 51611, 59599, 68824, 79477, 91778, 105984, 122388, 141332, 163207, 188469, 217641));
  EXPECT_THAT(
      tail(table_of(R"({"type": "yarn", "resonance": true, "factor": 8})", 4096).period, 21),
      ElementsAre(134, 160, 191, 230, 276, 332, 400, 484, 585, 710, 864, 1054, 1290, 1584, 1954, 2421, 3015, 3779, 4772,
                  6078, 7824, 10206, 13541, 18373, 25718, 37694, 43528, 50265, 58046, 67030, 77405, 89386, 103221,
                  119198, 137648, 158953, 183557, 211968, 244777, 282664, 326415, 376938, 435281));
  EXPECT_THAT(
      tail(table_of(R"({"type": "yarn", "resonance": true, "factor": 16})", 4096).period, 21),
      ElementsAre(134, 161, 193, 232, 280, 338, 409, 497, 604, 737, 902, 1108, 1366, 1692, 2107, 2641, 3334, 4245, 5464,
                  7125, 9450, 12817, 17927, 26247, 41399, 75388, 87056, 100531, 116091, 134060, 154810, 178772, 206443,
                  238396, 275296, 317907, 367113, 423936, 489553, 565327, 652830, 753876, 870562));
  EXPECT_THAT(table_of(R"({"resonance": true})", 64, 64).period,
              ElementsAre(6, 8, 11, 15, 20, 26, 35, 47, 63, 84, 112, 149, 199, 265, 353, 471, 628, 838, 1117, 1490,
                          1987, 2650, 3533, 4712, 6283, 8379, 11173, 14900, 19869, 26496, 35333, 47117));
  EXPECT_THAT(table_of(R"({"type": "yarn", "resonance": true, "factor": 4})", 64, 64).period,
              ElementsAre(6, 9, 13, 20, 30, 45, 71, 113, 188, 335, 447, 596, 795, 1060, 1413, 1885, 2513, 3352, 4469,
                          5960, 7948, 10598, 14133, 18847, 25133, 33515, 44693, 59599, 79477, 105984, 141332, 188469));
  EXPECT_THAT(table_of(R"({"type": "yarn", "resonance": true, "factor": 3.953846153846154, "beta_fast": 2,
                           "original_max_position_embeddings": 257})",
                       64, 64)
                  .period,
              ElementsAre(6, 8, 11, 15, 20, 26, 35, 47, 63, 84, 112, 198, 396, 1048, 1397, 1863, 2484, 3313, 4418, 5891,
                          7856, 10476, 13970, 18629, 24843, 33128, 44177, 58911, 78560, 104761, 139701, 186294));
  EXPECT_NEAR(table_of(R"({"resonance": true})", 4096).inverse_frequency[45], 0.00153999639882, 1e-14);
}

template <class T>
struct Filled {
  std::vector<T> cosine, sine;
  Filled(const RopeTable& table, const std::vector<int64_t>& positions)
      : cosine(positions.size() * table.period.size()), sine(cosine.size()) {
    const std::vector<int64_t> shape = {static_cast<int64_t>(positions.size()),
                                        static_cast<int64_t>(table.period.size())};
    fill_rotation(table, positions, Tensor::of(cosine, {shape[0], shape[1]}), Tensor::of(sine, {shape[0], shape[1]}));
  }
};

std::vector<int64_t> first_positions(int64_t count) {
  std::vector<int64_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

// Row n equals row n mod period, bit for bit, in tables of every length, and for positions in any order.
template <class T>
void expect_periodic(const RopeTable& table, int64_t length) {
  const size_t pairs = table.period.size();
  const Filled<T> filled(table, first_positions(length));
  for (size_t pair = 0; pair < pairs; ++pair)
    for (int64_t n = table.period[pair]; n < length; ++n) {
      const size_t here = static_cast<size_t>(n) * pairs + pair;
      const size_t there = static_cast<size_t>(n % table.period[pair]) * pairs + pair;
      ASSERT_EQ(filled.cosine[here], filled.cosine[there]) << "pair " << pair << " position " << n;
      ASSERT_EQ(filled.sine[here], filled.sine[there]) << "pair " << pair << " position " << n;
    }
  const std::vector<int64_t> shuffled = {length - 1, 0, length / 2, length / 3, 5 % length};
  const Filled<T> few(table, shuffled);
  for (size_t n = 0; n < shuffled.size(); ++n)
    for (size_t pair = 0; pair < pairs; ++pair)
      ASSERT_EQ(few.cosine[n * pairs + pair], filled.cosine[static_cast<size_t>(shuffled[n]) * pairs + pair]);
}

TEST(Resonance, TablesRepeatBitForBit) {
  const RopeTable table = table_of(R"({"type": "yarn", "resonance": true, "factor": 8})", 4096);
  for (int64_t length : {64, 257, 4096, 131072}) {
    expect_periodic<float>(table, length);
    expect_periodic<double>(table, length);
  }
}

TEST(Resonance, TablesRepeatAtAMillionTokens) {
  const RopeTable table = table_of(R"({"resonance": true})", 64, 16);
  expect_periodic<float>(table, 1000000);
}

TEST(Resonance, FeatureGapIsZeroBelowTheCriticalDimension) {
  const RopeReport plain = report_rope(parse_rope_config(Json::object(), 64, "test", ExitCode::kUsage), 64, 256);
  const RopeReport resonant =
      report_rope(parse_rope_config(Json{{"resonance", true}}, 64, "test", ExitCode::kUsage), 64, 256);
  EXPECT_EQ(plain.critical_dimension, 9);
  EXPECT_EQ(resonant.critical_dimension, 9);
  const std::vector<double> expected = {0.0708, 0.0796, 0.0752, 0.1276, 0.1093, 0.00764,
                                        0.0596, 0.0625, 0.0496, 0.758,  1.261};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(plain.pairs[i].feature_gap / expected[i], 1, 0.01) << i;
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(resonant.pairs[i].feature_gap, 0) << i;
  EXPECT_NEAR(resonant.pairs[9].feature_gap, 0.731, 0.001);
  EXPECT_EQ(
      report_rope(parse_rope_config(Json::object(), 4096, "test", ExitCode::kUsage), 128, 4097).critical_dimension, 46);
}

// Checks the table itself: every later row equals some row below L.
TEST(Resonance, FeatureGapOfTheTableIsZero) {
  const RopeTable table = table_of(R"({"resonance": true})", 64, 64);
  const Filled<double> filled(table, first_positions(256));
  const size_t pairs = table.period.size();
  for (size_t pair = 0; pair < 9; ++pair)
    for (size_t n = 64; n < 256; ++n) {
      bool seen = false;
      for (size_t m = 0; m < 64 && !seen; ++m)
        seen = filled.cosine[n * pairs + pair] == filled.cosine[m * pairs + pair] &&
               filled.sine[n * pairs + pair] == filled.sine[m * pairs + pair];
      EXPECT_TRUE(seen) << pair << ' ' << n;
    }
}

// The joint period of LLaMA-2's 46 pre-critical pairs as stated in the paper: more than 7·10^51 tokens.
TEST(Resonance, JointPeriod) {
  std::map<int64_t, int> powers;
  const RopeTable table = table_of(R"({"resonance": true})", 4096);
  for (size_t pair = 0; pair < 46; ++pair) {
    int64_t rest = table.period[pair];
    for (int64_t prime = 2; rest > 1; ++prime) {
      int power = 0;
      for (; rest % prime == 0; rest /= prime) ++power;
      if (power > 0) powers[prime] = std::max(powers[prime], power);
    }
  }
  double log10 = 0;
  for (const auto& [prime, power] : powers) log10 += power * std::log10(static_cast<double>(prime));
  EXPECT_NEAR(log10, std::log10(7.057974e51), 1e-6);
}

// 2410.01490, section 3. The two pairs of its figure 3, against values computed independently in double precision
// (numpy, ε = 1e-8); then every choice again from the definition.
TEST(Distributional, InterpolatesWhatThatDisturbsLess) {
  const double second = std::pow(1e4, -12.0 / 128), far = std::pow(1e4, -44.0 / 128);
  EXPECT_NEAR(disturbance(second, 8192, second, 4096), 0.242829271318052, 1e-12);
  EXPECT_NEAR(disturbance(second / 2, 8192, second, 4096), 0.004150812619698526, 1e-12);
  EXPECT_NEAR(disturbance(far, 8192, far, 4096), 0.4571936824731929, 1e-12);
  EXPECT_NEAR(disturbance(far / 2, 8192, far, 4096), 5.979411065155896, 1e-12);

  const auto shares = [](double frequency, int64_t length) {
    std::vector<double> result(360);
    for (int64_t m = 0; m < length; ++m) {
      const double angle = std::fmod(static_cast<double>(m) * frequency, 2 * std::numbers::pi);
      result[std::min<size_t>(359, static_cast<size_t>(angle / (2 * std::numbers::pi) * 360))] +=
          1.0 / static_cast<double>(length);
    }
    return result;
  };
  const auto distance = [&](double used, double trained) {
    const std::vector<double> a = shares(used, 4 * 512), b = shares(trained, 512);
    double sum = 0;
    for (size_t k = 0; k < a.size(); ++k) sum += a[k] * std::log((a[k] + 1e-8) / (b[k] + 1e-8));
    return sum;
  };
  for (const double threshold : {0.0, 0.5}) {
    const RopeTable table = table_of(
        fmt::format(R"({{"type": "distributional", "factor": 4, "disturbance_threshold": {}}})", threshold).c_str(),
        512, 64);
    int interpolated = 0;
    for (size_t i = 0; i < 32; ++i) {
      const double theta = std::pow(1e4, -static_cast<double>(i) / 32);
      const bool expected = distance(theta, theta) > distance(theta / 4, theta) + threshold;
      EXPECT_NEAR(table.inverse_frequency[i] / (expected ? theta / 4 : theta), 1, 1e-14) << i;
      interpolated += expected;
    }
    EXPECT_GT(interpolated, 5);
    EXPECT_LT(interpolated, 30);
  }
  const RopeTable llama2 = table_of(R"({"type": "distributional", "factor": 2})", 4096);
  int interpolated = 0;
  for (size_t i = 0; i < 64; ++i)
    interpolated += llama2.inverse_frequency[i] < 0.75 * std::pow(1e4, -static_cast<double>(i) / 64);
  EXPECT_EQ(interpolated, 46);
  EXPECT_EQ(llama2.attention_factor, 1);
  EXPECT_THROW(table_of(R"({"type": "distributional"})", 4096), Error);
  EXPECT_THROW(table_of(R"({"type": "distributional", "factor": 1e9})", 4096), Error);
}

// The angle by which rounding turns a pair at a distance, and the share of the logits' variance that this can move: 2(1
// − cos δ) of the pair's variance, checked by sampling queries and keys.
TEST(Resonance, MovesWhatItTurns) {
  const RopeConfig config = parse_rope_config(Json{{"resonance", true}}, 64, "test", ExitCode::kUsage);
  const RopeReport report = report_rope(config, 16, 256, 50);
  const RopeTable table = make_rope_table(config, 16, 1), plain = table_of("{}", 64, 16);
  double all = 0;
  for (size_t i = 0; i < 8; ++i) {
    const double turned = 50 * (table.inverse_frequency[i] - plain.inverse_frequency[i]);
    EXPECT_NEAR(std::remainder(report.pairs[i].phase_shift - turned, 2 * std::numbers::pi), 0, 1e-12);
    double moved = 0, variance = 0;
    for (int n = 0; n < 3600; ++n) {
      const double angle = n * std::numbers::pi / 1800 + 50 * plain.inverse_frequency[i];
      moved += std::pow(std::cos(angle + turned) - std::cos(angle), 2);
      variance += std::pow(std::cos(angle), 2);
    }
    EXPECT_NEAR(report.pairs[i].movable_share, moved / variance / 8, 1e-9) << i;
    all += report.pairs[i].movable_share;
  }
  EXPECT_GT(all, 0.1);
  std::vector<int64_t> distances;
  for (const auto& [distance, share] : report.movable_by_distance) distances.push_back(distance);
  EXPECT_THAT(distances, testing::ElementsAre(1, 2, 4, 8, 16, 32, 64, 128, 255));
  // Measured powers weight the pairs; pairs without power move nothing.
  const RopeReport weighed = report_rope(config, 16, 256, 50, {0, 0, 0, 3, 0, 0, 0, 1});
  EXPECT_EQ(weighed.pairs[0].movable_share, 0);
  EXPECT_NEAR(weighed.pairs[3].movable_share, report.pairs[3].movable_share * 8 * 0.75, 1e-12);
  EXPECT_THROW(report_rope(config, 16, 256, 50, {1, 2}), Error);
  EXPECT_TRUE(report_rope(parse_rope_config(Json::object(), 64, "test", ExitCode::kUsage), 16, 256)
                  .movable_by_distance.empty());
}

// CoPE by the formula of its paper and public code: the last N frequencies of the type are multiplied by (1 + cos φ)/2,
// for N equally spaced φ from 0 to π. The pairs before them and the attention factor are unchanged.
TEST(Cope, FadesTheSlowestPairsAfterAnyType) {
  constexpr double kPi = 3.14159265358979323846;
  for (const char* type : {R"({)", R"({"type": "linear", "factor": 4, )", R"({"type": "ntk", "factor": 4, )",
                           R"({"type": "dynamic", "factor": 4, "length": 16384, )",
                           R"({"type": "ntk_by_parts", "factor": 8, )", R"({"type": "yarn", "factor": 8, )",
                           R"({"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, )",
                           R"({"type": "proportional", "partial_rotary_factor": 0.75, )"})
    for (const int64_t faded : {0, 2, 3, 20, 64}) {
      SCOPED_TRACE(fmt::format("{} {}", type, faded));
      const RopeTable plain = table_of((std::string(type) + R"("cope": 0})").c_str(), 4096);
      const RopeTable table = table_of((std::string(type) + fmt::format(R"("cope": {}}})", faded)).c_str(), 4096);
      EXPECT_EQ(table.attention_factor, plain.attention_factor);
      for (int64_t i = 0; i < 64; ++i) {
        const int64_t j = i - (64 - faded);
        const double kept =
            j < 0 ? 1 : (1 + std::cos(kPi * static_cast<double>(j) / static_cast<double>(faded - 1))) / 2;
        const auto at = static_cast<size_t>(i);
        EXPECT_NEAR(table.inverse_frequency[at], kept * plain.inverse_frequency[at],
                    1e-14 * plain.inverse_frequency[at]);
      }
      if (faded > 0) {
        EXPECT_EQ(table.inverse_frequency[63], 0);
        EXPECT_TRUE(std::isinf(table.wavelength[63]));
      }
    }
}

// Resonance rounds the wavelengths after CoPE; a pair that does not rotate has no wavelength to round.
TEST(Cope, ComesBeforeResonance) {
  const RopeTable faded = table_of(R"({"type": "yarn", "factor": 8, "cope": 20})", 4096);
  const RopeTable both = table_of(R"({"type": "resonance_yarn", "factor": 8, "cope": 20})", 4096);
  for (size_t i = 0; i < 63; ++i)
    EXPECT_EQ(both.period[i], std::llround(2 * std::numbers::pi / faded.inverse_frequency[i])) << i;
  EXPECT_EQ(both.period[63], 0);
  EXPECT_EQ(both.inverse_frequency[63], 0);
  const Filled<double> filled(both, {1000000});
  EXPECT_EQ(filled.cosine[63], both.attention_factor);
  EXPECT_EQ(filled.sine[63], 0);
}

TEST(Cope, RefusesWhatHasNoHalfCosine) {
  for (const char* settings : {R"({"cope": 1})", R"({"cope": -2})", R"({"cope": 2.5})", R"({"cope": true})",
                               R"({"cope": 65})", R"({"cope": 1e300})"})
    try {
      table_of(settings, 4096);
      ADD_FAILURE() << settings;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_THAT(error.what(), testing::HasSubstr("cope")) << settings;
    }
}

TEST(Rope, FillsWithTheAttentionFactor) {
  const RopeTable table = table_of(R"({"type": "yarn", "factor": 8})", 4096);
  const Filled<double> filled(table, {0, 3});
  EXPECT_DOUBLE_EQ(filled.cosine[0], table.attention_factor);
  EXPECT_DOUBLE_EQ(filled.sine[64], table.attention_factor * std::sin(3.0));
}

}  // namespace
}  // namespace carillon
