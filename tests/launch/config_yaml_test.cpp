// Strict YAML: what is accepted; anything ambiguous or hostile is refused with its place.
#include "launch/config/yaml.h"

#include "tests/launch/near_error.h"
#include "tests/support/temporary_folder.h"

namespace carillon {
namespace {

using testing::expect_error;
using Kind = YamlNode::Kind;

TEST(ConfigYaml, ReadsWhatAConfigurationHolds) {
  const YamlNode node = parse_yaml("a: 1\nb: {c: [x, 'y', ~]}  # comment\nd:\n  - {path: book.txt}\n", "f");
  ASSERT_EQ(node.kind, Kind::kMapping);
  EXPECT_EQ(node.find("a")->text, "1");
  EXPECT_EQ(node.find("a")->where, "f:1:4");
  const YamlNode& list = *node.find("b")->find("c");
  EXPECT_FALSE(list.items[0].quoted);
  EXPECT_TRUE(list.items[1].quoted);
  EXPECT_EQ(list.items[2].kind, Kind::kNull);
  EXPECT_EQ(node.find("d")->items[0].find("path")->where, "f:4:12");
  EXPECT_EQ(node.find("e"), nullptr);
  EXPECT_EQ(parse_yaml("", "f").kind, Kind::kNull);
  EXPECT_EQ(parse_yaml("\xEF\xBB\xBF"
                       "a: 1",
                       "f")
                .find("a")
                ->text,
            "1");
}

TEST(ConfigYaml, RefusesWhatReadersDisagreeAbout) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"a: 1\nb: 2\na: 3\n", {"'a' is given twice", "f:1:1", "f:3:1"}},
      {"a: &x 1\n", {"anchor", "f:1"}},
      {"a: &x [1]\nb: *x\n", {"anchor", "f:1"}},
      {"a: &a [*a]\n", {"f:1"}},
      {"a: *x\n", {"f:1"}},
      {"a: !!int 3\n", {"tag", "f:1"}},
      {"a: !x 'text'\n", {"tag", "f:1"}},
      {"a:\n  <<: {b: 1}\n", {"merge key", "f:2"}},
      {"a: 1\n---\nb: 2\n", {"second YAML document", "f:"}},
      {"? [a, b]\n: 1\n", {"a key must be plain text", "f:1"}},
      {"a: [1, 2\nb: 3\n", {"not readable as YAML", "f:"}},
      {"a: 1\n\tb: 2\n", {"f:", "no tabs"}},
      {"a:\n\tb: 1\n", {"f:", "no tabs"}},
      {std::string("\xff\xfe"
                   "a\0:\0",
                   6),
       {"UTF-16", "save it as UTF-8"}},
      {std::string("\0a\0:", 4), {"UTF-16", "save it as UTF-8"}},
      {std::string("a\0\0\0", 4), {"UTF-32", "save it as UTF-8"}},
      {std::string("a: \0b", 5), {"control character", "f:1:4"}},
      {"a: 1\nb: \x1b[31m\n", {"control character", "f:2:4"}},
      {"a: \xff\xfe\n", {"UTF-8"}},
      {std::string(kYamlMaximumBytes + 1, ' '), {"at most"}},
      {std::string(kYamlMaximumDepth + 1, '[') + std::string(kYamlMaximumDepth + 1, ']'),
       {"nested deeper than 16", "f:1:17"}},
      {std::string(100'000, '['), {"f:1"}},
      {std::string(100'000, '{'), {"f:1"}},
  };
  for (const auto& [text, words] : cases) {
    SCOPED_TRACE(text.substr(0, 40));
    expect_error(ExitCode::kUsage, words, [&] { parse_yaml(text, "f"); });
  }
}

TEST(ConfigYaml, StopsAnAliasBombAndManyNodesAtOnce) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n", i, i - 1);
  }
  expect_error(ExitCode::kUsage, {"anchor", "f:1"}, [&] { parse_yaml(bomb, "f"); });
  std::string many = "a: [";
  for (int i = 0; i <= kYamlMaximumNodes; ++i) many += "1,";
  expect_error(ExitCode::kUsage, {"more than 10000 values"}, [&] { parse_yaml(many + "]", "f"); });
}

TEST(ConfigYaml, NeverPrintsAFileNamesControlCharacters) {
  expect_error(ExitCode::kUsage, {"evil\\n\\x1b[2J:1:1"}, [] { parse_yaml("&a 1", "evil\n\x1b[2J"); });
}

TEST(ConfigYaml, AnyCutOfAFileIsReadOrRefused) {
  const std::string text = "model: {base: 'x', n: [1, 2e-5, ~]}\ntrain:\n  - \"a\\tb\"\n  - |\n    block\n";
  for (size_t length = 0; length <= text.size(); ++length) {
    for (const char replacement : {'\0', '&', '*', '!', '[', '}', ':', '\n', '"', '-', '?', '\x80'}) {
      std::string mutant = text.substr(0, length);
      mutant += replacement;
      if (length < text.size()) mutant += text.substr(length + 1);
      try {
        parse_yaml(mutant, "f");
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
      }
    }
  }
}

TEST(ConfigYaml, FilesThatAreNone) {
  testing::TemporaryFolder folder;
  expect_error(ExitCode::kMissingInput, {"missing.yaml"}, [&] { parse_yaml_file(folder / "missing.yaml"); });
  expect_error(ExitCode::kBadInput, {"folder"}, [&] { parse_yaml_file(folder.path()); });
  expect_error(ExitCode::kUsage, {"more than"}, [&] { parse_yaml_file("/dev/zero"); });
  EXPECT_EQ(parse_yaml_file(folder.write("a.yaml", "a: 1\n")).find("a")->text, "1");
}

}  // namespace
}  // namespace carillon
