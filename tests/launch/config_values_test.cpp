// Scalar values of the configuration: only unambiguous text is accepted, and a value is written as text that reads
// back.
#include "launch/config/values.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "runtime/text.h"

namespace carillon {
namespace {

TEST(ConfigValues, Integers) {
  EXPECT_EQ(parse_integer("64k"), 65536);
  EXPECT_EQ(parse_integer("2M"), 2 << 20);
  EXPECT_EQ(parse_integer("-3"), -3);
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* text : {"", "k", "1_000", "+5", "0x10", "010", "12 ", " 12", "1.5", "1e3", "9223372036854775808",
                           "9223372036854775807k", "64kb", "--1", "1-"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
  }
}

TEST(ConfigValues, Numbers) {
  EXPECT_EQ(parse_number("2e-5"), 2e-5);
  EXPECT_EQ(parse_number(".5"), 0.5);
  EXPECT_EQ(parse_number("-3"), -3);
  for (const char* text : {"", "nan", "inf", ".inf", "1e999", "1,5", "0x1p3", "1_0", "5%", "e5", "1e", "01.5"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
}

TEST(ConfigValues, AnyNumberReadsBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(parse_number(format_number(value)), value) << format_number(value);
  }
}

TEST(ConfigValues, Durations) {
  EXPECT_EQ(parse_duration("30m"), 1800);
  EXPECT_EQ(parse_duration("1h30m"), 5400);
  EXPECT_EQ(parse_duration("1.5h"), 5400);
  EXPECT_EQ(parse_duration("90s"), 90);
  EXPECT_EQ(parse_duration("2d"), 172800);
  for (const char* text : {"", "30", "m", "30m1h", "1m1m", "-5s", "1e2s", "5 m", "5x", "1h30"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
  for (const double seconds : {0.0, 0.25, 1.0, 59.0, 60.0, 5400.0, 86400.0, 123456.5}) {
    EXPECT_EQ(parse_duration(format_duration(seconds)), seconds) << format_duration(seconds);
  }
}

TEST(Text, PrintableHidesNothing) {
  EXPECT_EQ(printable("a\nb\x1b[2J\x7f"), "a\\nb\\x1b[2J\\x7f");
  EXPECT_EQ(printable("h\xc3\xa9"), "h\xc3\xa9");
  // Not seen, or turning the direction of writing: two names would look alike.
  EXPECT_EQ(printable("max\xe2\x80\x8b_steps\xe2\x80\xae\xef\xbb\xbf"), "max\\u200b_steps\\u202e\\ufeff");
  EXPECT_EQ(printable("\xe2\x80\x8d\xe2\x82\xac"), "\xe2\x80\x8d\xe2\x82\xac");
  EXPECT_EQ(printable("\xc2\x9b"
                      "1m\xff"),
            "\\x9b"
            "1m\\xff");
  EXPECT_FALSE(is_utf8("\xc0\xaf"));      // overlong
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));  // a surrogate
  EXPECT_TRUE(is_utf8("\xf0\x9f\x94\x94"));
}

TEST(Text, NearestName) {
  EXPECT_EQ(nearest("learning-rate", {"seed", "learning_rate"}), "learning_rate");
  EXPECT_EQ(nearest("trian", {"score", "train", "tokenize"}), "train");
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace carillon
