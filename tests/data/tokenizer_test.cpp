// Tokenizers against Hugging Face's library: tests/golden/tokenizers, made by make_tokenizers.py.
#include "data/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

const std::string kGolden = std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/";

class TokenizerTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizerTest, EncodesAndDecodesAsHuggingFace) {
  const auto tokenizer = Tokenizer::open(kGolden + GetParam());
  const auto expected = nlohmann::json::parse(read_whole(kGolden + GetParam() + "/expected.json"));
  for (const auto& item : expected) {
    const std::string text = item["text"];
    const auto ids = item["ids"].get<std::vector<uint32_t>>(),
               special = item["with_special"].get<std::vector<uint32_t>>();
    EXPECT_EQ(tokenizer->encode(text, false), ids) << ::testing::PrintToString(text);
    EXPECT_EQ(tokenizer->encode(text, true), special) << ::testing::PrintToString(text);
    EXPECT_EQ(tokenizer->decode(special, true), item["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer->decode(special, false), item["decoded_all"].get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerTest, ::testing::Values("gpt2", "llama3", "qwen2", "smollm", "llama2"),
                         [](const auto& family) { return family.param; });

TEST(Tokenizer, EndOfDocumentComesFromTheConfigurationBesideIt) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", read_whole(kGolden + "smollm/tokenizer.json"));
  EXPECT_FALSE(Tokenizer::open(folder.path())->eos());
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "<|im_end|>"}})");
  const auto tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer->eos(), tokenizer->id_of("<|im_end|>"));
}

TEST(Tokenizer, HostileFilesAreRefused) {
  const TemporaryFolder folder;
  const auto refused = [&](const char* name, const std::string& text, ExitCode code) {
    const std::string path = folder.write(name, text);
    try {
      Tokenizer::open(path);
      ADD_FAILURE() << text.substr(0, 60);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_THAT(error.what(), ::testing::HasSubstr(name));
    }
  };
  refused("tokenizer.json", "", ExitCode::kBadInput);
  refused("tokenizer.json", "{}", ExitCode::kBadInput);
  refused("tokenizer.json", R"({"model":{"type":"Unigram","vocab":[]}})", ExitCode::kBadInput);
  refused("tokenizer.json", std::string(100000, '['), ExitCode::kBadInput);
  refused("tokenizer.model", "this is no protobuf", ExitCode::kBadInput);
  EXPECT_THROW(Tokenizer::open(folder / "nowhere.json"), Error);
  const auto tokenizer = Tokenizer::open(kGolden + "gpt2");
  EXPECT_THROW(tokenizer->encode("\xff", false), Error);
  EXPECT_THROW(tokenizer->decode(std::vector<uint32_t>{999999}, false), Error);
}

}  // namespace
}  // namespace carillon::testing
