// Tokenizers against Hugging Face's library: tests/golden/tokenizers, made by make_tokenizers.py.
#include "data/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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

// The files are searched in order; a value that names no token is skipped and noted.
TEST(Tokenizer, EndOfDocumentIsSoughtInAllFiles) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", read_whole(kGolden + "smollm/tokenizer.json"));
  EXPECT_THAT(Tokenizer::open(folder.path())->end_search(), ::testing::HasSubstr("generation_config.json (absent)"));
  folder.write("generation_config.json", R"({"eos_token_id": [2, 1]})");
  EXPECT_EQ(Tokenizer::open(folder.path())->eos(), 2u);
  folder.write("config.json", R"({"eos_token_id": 100000})");
  const auto past = Tokenizer::open(folder.path());
  EXPECT_EQ(past->eos(), 2u);
  EXPECT_THAT(past->end_search(), ::testing::HasSubstr("config.json (its eos_token_id 100000 is not a token)"));
  folder.write("config.json", R"({"text_config": {"eos_token_id": 1}})");
  EXPECT_EQ(Tokenizer::open(folder.path())->eos(), 1u);
  folder.write("special_tokens_map.json", R"({"eos_token": {"content": "<|im_end|>"}})");
  EXPECT_EQ(Tokenizer::open(folder.path())->eos(), Tokenizer::open(folder.path())->id_of("<|im_end|>"));
  // The map takes precedence over an older tokenizer_config.json; one with added_tokens_decoder is complete.
  folder.write("tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})");
  EXPECT_EQ(Tokenizer::open(folder.path())->eos(), Tokenizer::open(folder.path())->id_of("<|im_end|>"));
  folder.write("tokenizer_config.json", R"({"eos_token": "<|endoftext|>", "added_tokens_decoder": {}})");
  EXPECT_EQ(Tokenizer::open(folder.path())->eos(), Tokenizer::open(folder.path())->id_of("<|endoftext|>"));
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {}})");
  EXPECT_EQ(Tokenizer::open(folder.path())->eos(), Tokenizer::open(folder.path())->id_of("<|im_end|>"));
}

// A token that takes the white space around it, met again in what it took: once, as in tokenizers 0.23.3.
TEST(Tokenizer, ATokenThatWasSwallowedIsNoOther) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json",
               R"({"added_tokens": [{"id": 2, "content": " ", "lstrip": true, "rstrip": true, "normalized": false}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  const auto ids = [&](const char* text) { return Tokenizer::open(folder.path())->encode(text, false); };
  EXPECT_EQ(ids("a b"), (std::vector<uint32_t>{0, 2, 1}));
  EXPECT_EQ(ids("a   b "), (std::vector<uint32_t>{0, 2, 1, 2}));
  EXPECT_EQ(ids("    "), (std::vector<uint32_t>{2}));
}

// Tokens that only the files beside tokenizer.json speak of, and flags in which they differ from it: as transformers
// 5.24, whose ids these are. (A name that no token of the vocabulary has is no token here.)
TEST(Tokenizer, FilesBesideATokenizerJsonCount) {
  using Ids = std::vector<uint32_t>;
  const TemporaryFolder folder;
  folder.write("tokenizer.json",
               R"({"added_tokens": [{"id": 7, "content": "<e>", "special": true, "normalized": false}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, " ": 2, "<": 3, ">": 4, "ab": 5, "t": 6}, "merges": ["a b"]}})");
  const auto ids = [&](const char* text) { return Tokenizer::open(folder.path())->encode(text, false); };
  const uint64_t alone = Tokenizer::open(folder.path())->hash();
  EXPECT_EQ(ids("a <e> b<t>ab"), (Ids{0, 2, 7, 2, 1, 3, 6, 4, 5}));
  folder.write("tokenizer_config.json", R"({"eos_token": "<e>", "model_max_length": 9, "pad_token": "<none>"})");
  EXPECT_EQ(ids("a <e> b<t>ab"), (Ids{0, 2, 7, 2, 1, 3, 6, 4, 5}));
  EXPECT_EQ(Tokenizer::open(folder.path())->hash(), alone);
  // Another flag, and additional tokens; their ids are those of the vocabulary, else the next free ones.
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {
    "10": {"content": "<u>", "special": true}, "9": {"content": "<t>", "special": true},
    "3": {"content": "<e>", "special": true, "normalized": false, "lstrip": true, "rstrip": true}}})");
  EXPECT_EQ(ids("a <e> b<t>ab<u>"), (Ids{0, 7, 1, 8, 5, 9}));
  const auto whole = Tokenizer::open(folder.path());
  EXPECT_EQ(whole->vocabulary(), 10);
  EXPECT_NE(whole->hash(), alone);
  EXPECT_EQ(whole->decode(Ids{0, 8, 5}, true), "a ab");
  EXPECT_EQ(whole->decode(Ids{0, 999999, 8, 5}, true), "a ab") << "an id without a token is left out";
  // A vocabulary entry that is named as special is matched in the text first.
  for (const char* config : {R"({"eos_token": "ab"})", R"({"additional_special_tokens": ["ab"]})",
                             R"({"extra_special_tokens": {"pair": "ab"}})", R"({"image_token": {"content": "ab"}})"}) {
    folder.write("tokenizer_config.json", config);
    EXPECT_EQ(Tokenizer::open(folder.path())->decode(Ids{0, 5}, true), "a") << config;
  }
  folder.write("tokenizer_config.json", "{}");
  folder.write("added_tokens.json", R"({"<t>": 8})");
  EXPECT_EQ(ids("<t>"), (Ids{8}));
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {}})");
  EXPECT_EQ(ids("<t>"), (Ids{3, 6, 4})) << "a complete file leaves the older one unread";
  for (const char* bad : {R"({"added_tokens_decoder": []})", R"({"added_tokens_decoder": {"9": {}}})",
                          R"({"added_tokens_decoder": {"-1": "a"}})", R"({"eos_token": 1e999})", "[]"}) {
    folder.write("tokenizer_config.json", bad);
    try {
      Tokenizer::open(folder.path());
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
    }
  }
}

// Every byte of the source is counted once, at its exact place if tokens are bytes of the source.
TEST(Tokenizer, TokensTellTheirBytes) {
  const std::string text = "Caf\u00e9 \u6771\u4eac <|endoftext|>\U0001F642 x";
  for (const char* family : {"gpt2", "llama3", "qwen2", "smollm", "llama2"}) {
    const auto tokenizer = Tokenizer::open(kGolden + family);
    std::vector<size_t> ends;
    const auto ids = tokenizer->encode(text, true, &ends);
    ASSERT_EQ(ends.size(), ids.size());
    EXPECT_TRUE(std::is_sorted(ends.begin(), ends.end())) << family;
    EXPECT_EQ(ends.back(), text.size()) << family;
    const bool begins = family == std::string("llama3") || family == std::string("llama2");
    EXPECT_EQ(ends[0] == 0, begins) << family;  // the beginning-of-text token
    EXPECT_EQ(ids, tokenizer->encode(text, true));
  }
  const auto tokenizer = Tokenizer::open(kGolden + "gpt2");
  std::vector<size_t> ends;
  const auto ids = tokenizer->encode("a \u6771<|endoftext|>b", false, &ends);
  for (size_t i = 0, begin = 0; i < ids.size(); begin = ends[i++])
    if (ids[i] == tokenizer->id_of("<|endoftext|>")) {
      EXPECT_EQ(begin, 5u);
      EXPECT_EQ(ends[i], 18u);
    }
}

// Unicode versions follow tokenizers 0.23.3: characters that current tables of PCRE2 and utf8proc lack, and ones that
// tokenizers lacks.
TEST(Tokenizer, UnicodeIsTheLibrarys) {
  const auto tokens = [](const std::string& normalizer, const std::string& pre_tokenizer, const std::string& text) {
    const auto tokenizer = Tokenizer::from_json(
        "the test",
        R"({"normalizer": )" + normalizer + R"(, "pre_tokenizer": )" + pre_tokenizer +
            R"(, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "\u0315": 3, "\u0334": 4, "\u0897": 5, "?": 6},
                         "merges": ["a b"], "unk_token": "?"}})",
        "");
    return tokenizer->encode(text, false);
  };
  const auto split = [](const std::string& pattern) {
    return R"({"type": "Split", "pattern": {"Regex": ")" + pattern + R"("}, "behavior": "Removed"})";
  };
  using Ids = std::vector<uint32_t>;
  EXPECT_EQ(tokens("null", split("\\\\p{Lu}"), "a\U00010D50b"), (Ids{0, 1}));       // Garay, Unicode 16
  EXPECT_EQ(tokens("null", split("(?i)\U00010D70"), "a\U00010D50b"), (Ids{0, 1}));  // and its case
  EXPECT_EQ(tokens("null", split("\\\\p{Garay}"), "a\U00010D50b"), (Ids{0, 1}));
  EXPECT_EQ(tokens("null", split("\\\\w"), "\u00b2"), (Ids{}));
  EXPECT_EQ(tokens("null", split("[\\\\w]"), "\u00b2"), (Ids{6}));
  EXPECT_EQ(tokens(R"({"type": "NFC"})", "null", "a\u0315\u0334"), (Ids{0, 4, 3}));
  EXPECT_EQ(tokens(R"({"type": "NFC"})", "null", "a\u0897\u0334"), (Ids{0, 5, 4}));  // newer than Unicode 9: unchanged
  EXPECT_EQ(tokens(R"({"type": "Lowercase"})", "null", "\u0041\u0042"), (Ids{2}));
  EXPECT_THROW(tokens("null", split("\\\\X"), "a"), Error);
  EXPECT_THROW(tokens("null", split("\\\\p{InGaray}"), "a"), Error);
}

// A SentencePiece model of a few pieces, written by hand as a protocol buffer.
std::string small_model() {
  const auto message = [](int field, const std::string& body) {
    return std::string(1, static_cast<char>(field << 3 | 2)) + static_cast<char>(body.size()) + body;
  };
  std::string model;
  int rank = 0;
  const auto piece = [&](const std::string& text, int type) {
    const float score = static_cast<float>(-rank++);
    std::string body = message(1, text) + "\x15";
    body.append(reinterpret_cast<const char*>(&score), sizeof score);
    model += message(1, body + "\x18" + static_cast<char>(type));
  };
  piece("<unk>", 2), piece("<s>", 3), piece("</s>", 3);
  for (const char* text : {"ab", "\u2581a", "a", "b", "\u2581"}) piece(text, 1);
  model += message(2, "\x18\x02");                                           // trainer_spec: byte pairs
  model += message(3, message(1, "identity") + std::string("\x20\x00", 2));  // normalizer_spec: spaces are kept
  return model;
}

TEST(Tokenizer, FilesBesideASentencePieceModelCount) {
  using Ids = std::vector<uint32_t>;
  const TemporaryFolder folder;
  folder.write("tokenizer.model", small_model());
  const auto alone = Tokenizer::open(folder.path());
  EXPECT_EQ(alone->encode("ab", true), (Ids{1, 7, 3}));
  EXPECT_EQ(alone->eos(), 2u);
  folder.write("added_tokens.json", R"({"<|im_end|>": 8})");
  folder.write("tokenizer_config.json",
               R"({"bos_token": "<s>", "eos_token": "<|im_end|>", "add_bos_token": false, "add_eos_token": true})");
  const auto tokenizer = Tokenizer::open(folder.path());
  EXPECT_NE(tokenizer->hash(), alone->hash());
  EXPECT_EQ(tokenizer->vocabulary(), 9);
  EXPECT_EQ(tokenizer->eos(), 8u);
  std::vector<size_t> ends;
  EXPECT_EQ(tokenizer->encode("ab<s>b <|im_end|>a", true, &ends), (Ids{7, 3, 1, 6, 7, 8, 5, 8}));
  EXPECT_EQ(ends.front(), 0u);
  EXPECT_EQ(ends.back(), 18u);
  EXPECT_EQ(tokenizer->encode(" a", false), (Ids{4}));  // a text that begins with a space gets no second one
  EXPECT_EQ(tokenizer->decode(Ids{7, 3, 8, 5}, false), "ab<|im_end|>a");
  EXPECT_EQ(tokenizer->decode(Ids{7, 3, 999999, 8, 5}, true), "aba") << "an id without a token is left out";
  EXPECT_EQ(tokenizer->decode(Ids{7, 3, 8, 5}, true), "aba");  // a token that eos_token names is special
  folder.write("tokenizer_config.json",
               R"({"add_bos_token": true, "added_tokens_decoder": {"8": {"content": "<|im_end|>", "special": true}}})");
  EXPECT_EQ(Tokenizer::open(folder.path())->encode("b", true), (Ids{1, 7, 6}));
  EXPECT_EQ(Tokenizer::open(folder.path())->decode(Ids{7, 3, 8, 5}, true), "aba");
  for (const char* bad :
       {"[]", "{", R"({"added_tokens_decoder": {"x": "a"}})", R"({"added_tokens_decoder": {"3": "zz"}})",
        R"({"added_tokens_decoder": {"9": "x", "10": "x"}})", R"({"added_tokens_decoder": 5})"}) {
    folder.write("tokenizer_config.json", bad);
    try {
      Tokenizer::open(folder.path());
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
    }
  }
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
}

}  // namespace
}  // namespace carillon::testing
