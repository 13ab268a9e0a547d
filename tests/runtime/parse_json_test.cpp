#include "runtime/parse_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace carillon::testing {
namespace {

std::string message_of(const std::string& text, const JsonLimits& limits = {}, ExitCode code = ExitCode::kBadInput) {
  try {
    (void)parse_json(text, "a.json", code, limits);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
}

TEST(ParseJson, GivesWhatIsThere) {
  const Json json = parse_json(R"({"b": [1, {"c": "]]]]{{{{\"[["}], "a": 1e3})", "a.json");
  EXPECT_EQ(json["b"][1]["c"], "]]]]{{{{\"[[");
  EXPECT_EQ(json.begin().key(), "b");  // in the order of the text
}

TEST(ParseJson, FaultsAreOneErrorWithAPlace) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  for (const char* text : {"", "{", "[1,]", "nul", "{\"a\": 1e999}", "\"\xff\"", "{} {}", "\x01"})
    EXPECT_THAT(message_of(text), AllOf(HasSubstr("not valid JSON"), HasSubstr("a.json"))) << text;
  EXPECT_THAT(message_of("{", {}, ExitCode::kUsage), HasSubstr("not valid JSON"));
  EXPECT_EQ(try_parse_json("{"), std::nullopt);
}

TEST(ParseJson, DepthIsBoundedBeforeAnythingIsBuilt) {
  const auto nested = [](size_t depth, char open, char close) {
    std::string text;
    for (size_t i = 0; i < depth; ++i) text += open == '{' ? "{\"a\":" : "[";
    text += "1";
    return text + std::string(depth, close);
  };
  EXPECT_EQ(message_of(nested(64, '[', ']')), "");
  EXPECT_EQ(message_of(nested(64, '{', '}')), "");
  for (const size_t depth : {size_t{65}, size_t{1'000'000}}) {
    EXPECT_THAT(message_of(nested(depth, '[', ']')), ::testing::HasSubstr("nested more than 64 deep"));
    EXPECT_THAT(message_of(nested(depth, '{', '}')), ::testing::HasSubstr("nested more than 64 deep"));
  }
  EXPECT_THAT(message_of(std::string(1'000'000, '[')), ::testing::HasSubstr("nested"));
}

TEST(ParseJson, LengthAndNamesAreBounded) {
  EXPECT_THAT(message_of("[1, 2, 3]", {.bytes = 5}), ::testing::HasSubstr("more than the 5"));
  std::string many = "{\"a\": 0";
  for (int i = 0; i < 20'000; ++i) many += fmt::format(",\"k{}\":{}", i, i);
  many += "}";
  EXPECT_THAT(message_of(many), ::testing::HasSubstr("has 20001 names"));
  EXPECT_EQ(parse_json<nlohmann::json>(many, "a.json").size(), 20'001u);  // sorted names have no bound
  EXPECT_THAT(message_of(R"({"a": {"b": 1, "b": 2}})", {.unique_keys = true}),
              ::testing::HasSubstr("b is there twice"));
  EXPECT_EQ(message_of(R"({"a": {"b": 1}, "b": 2})", {.unique_keys = true}), "");
}

}  // namespace
}  // namespace carillon::testing
