// JSON fields and lines: what is accepted, and that errors are reported with their place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/json_lines.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

using ::testing::HasSubstr;

// The message of the read, which must fail with `code`.
template <class Read>
std::string refusal(Read read, ExitCode code = ExitCode::kBadInput) {
  try {
    read();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "not refused";
}

JsonFields fields_of(const Json& json) { return JsonFields(json, {"a.json", "measure again"}); }

TEST(JsonFields, ReadsWhatIsThereAndDefaultsWhatIsNot) {
  const Json json = Json::parse(R"({"i": 3, "big": 9223372036854775807, "x": 0.5, "one": 1, "yes": true, "t": "word",
    "none": null, "list": [1, 2], "part": {"deep": [{"i": 4}, {"i": 5}]}})");
  const JsonFields fields = fields_of(json);
  EXPECT_EQ(fields.integer("i", 3, 3), 3);
  EXPECT_EQ(fields.integer("big"), INT64_MAX);
  EXPECT_EQ(fields.number("x", 0.5), 0.5);
  EXPECT_EQ(fields.number("one"), 1.0);
  EXPECT_TRUE(fields.boolean("yes"));
  EXPECT_EQ(fields.text("t"), "word");
  EXPECT_EQ(fields.integers("list"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(fields.object("part").list("deep", [](const JsonFields& one) { return one.integer("i"); }),
            (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(fields.integer_or("none", 7, 8), 7) << "the caller's own value, no null";
  EXPECT_EQ(fields.number_or("absent", 0.25), 0.25);
  EXPECT_EQ(fields.text_or("absent", "word"), "word");
  EXPECT_TRUE(fields.boolean_or("absent", true));
  EXPECT_EQ(fields.integer_or("i", 7), 3);
}

TEST(JsonFields, NameWhatIsWrong) {
  const Json json = Json::parse(R"({"minus": -1, "wide": 9223372036854775808, "wider": 1e30, "point": 3.0, "t": "3",
    "none": null, "list": [1, 18446744073709551615], "part": {"deep": [{"i": 4}, {"i": -4}, 5]}})");
  const JsonFields fields = fields_of(json);
  for (const char* key : {"minus", "wide", "wider", "point", "t", "none", "absent", "list"}) {
    const std::string text = refusal([&] { (void)fields.integer(key, 0); });
    EXPECT_THAT(text, HasSubstr(std::string(key) + " is ")) << key;
    EXPECT_THAT(text, HasSubstr("in a.json, give an integer from 0; measure again"));
  }
  EXPECT_THAT(refusal([&] { (void)fields.integer("wide"); }), HasSubstr("wide is 9223372036854775808"));
  EXPECT_THAT(refusal([&] { (void)fields.integer("absent"); }), HasSubstr("absent is missing"));
  EXPECT_THAT(refusal([&] { (void)fields.number("wider", 0, 1e29); }), HasSubstr("up to"));
  EXPECT_THAT(refusal([&] { (void)fields.number("t"); }), HasSubstr("t is \"3\""));
  EXPECT_THAT(refusal([&] { (void)fields.boolean("minus"); }), HasSubstr("true or false"));
  EXPECT_THAT(refusal([&] { (void)fields.text("minus"); }), HasSubstr("a text"));
  EXPECT_THAT(refusal([&] { (void)fields.integers("list"); }), HasSubstr("a list of integers"));
  EXPECT_THAT(refusal([&] { (void)fields.object("list"); }), HasSubstr("keys and values"));
  const auto deep = [&](int64_t least) {
    return refusal([&] {
      (void)fields.object("part").list("deep", [&](const JsonFields& one) { return one.integer("i", least); });
    });
  };
  EXPECT_THAT(deep(0), HasSubstr("part.deep[1].i is -4"));
  EXPECT_THAT(deep(-9), HasSubstr("part.deep[2] is not a JSON object"));
  const Json text = "text";
  EXPECT_THAT(refusal(
                  [&] {
                    JsonFields(text, {"run.yaml", "", ExitCode::kUsage});
                  },
                  ExitCode::kUsage),
              HasSubstr("run.yaml"));
}

TEST(JsonLines, GiveObjectsWithTheirPlaces) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.jsonl", "{\"n\": 1}\n\n \t\r\n{\"n\": 2}\r\n{\"n\": 3}");
  JsonLines lines(path, JsonLines::LastLine::kRead, "mend it");
  EXPECT_TRUE(lines.opened());
  std::vector<int64_t> numbers, places, ends;
  while (const auto json = lines.next()) {
    numbers.push_back(json->at("n").get<int64_t>());
    places.push_back(lines.line());
    ends.push_back(lines.end());
  }
  EXPECT_EQ(numbers, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(places, (std::vector<int64_t>{1, 4, 5}));
  EXPECT_EQ(ends, (std::vector<int64_t>{9, 24, 32}));
  EXPECT_EQ(lines.place(), path + ":5");
  JsonLines ended(path, JsonLines::LastLine::kMustEnd, "mend it");
  int64_t count = 0;
  while (ended.next()) ++count;
  EXPECT_EQ(count, 2) << "the last line has no newline: it may be cut";
  EXPECT_EQ(ended.end(), 24);
  EXPECT_FALSE(JsonLines(folder / "none", JsonLines::LastLine::kRead, "").opened());
  EXPECT_FALSE(JsonLines(folder.path(), JsonLines::LastLine::kRead, "").opened()) << "a folder has no lines";
}

TEST(JsonLines, NameTheLineThatIsWrong) {
  const TemporaryFolder folder;
  const std::pair<const char*, const char*> cases[] = {{"{\"a\": [1,", "is not valid JSON"},
                                                       {"{\"a\": 1} {", "is not valid JSON"},
                                                       {"{\"a\": \"\xFF\"}", "is not valid JSON"},
                                                       {"{\"a\": NaN}", "is not valid JSON"},
                                                       {"{\"a\": -1e999}", "beyond the range of a double"},
                                                       {"[1]", "is not a JSON object"},
                                                       {"null", "is not a JSON object"}};
  for (const auto& [line, says] : cases) {
    const std::string path = folder.write("b.jsonl", "{}\n\n" + std::string(line) + "\n");
    JsonLines lines(path, JsonLines::LastLine::kMustEnd, "mend it");
    EXPECT_TRUE(lines.next().has_value());
    const std::string text = refusal([&] { (void)lines.next(); });
    EXPECT_THAT(text, HasSubstr(says)) << line;
    EXPECT_THAT(text, HasSubstr("b.jsonl:3, mend it")) << line;
  }
}

}  // namespace
}  // namespace carillon::testing
