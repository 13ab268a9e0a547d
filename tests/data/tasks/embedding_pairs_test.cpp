// Pairs for embeddings: documents fit their length, each contains its own fact and no other, facts occur at all depths,
// and the query names its fact.
#include "data/tasks/embedding_pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

using ::testing::HasSubstr;

TEST(EmbeddingPairs, OfTokens) {
  constexpr int64_t kVocabulary = 67;  // 32 symbols, 32 fillers
  for (const char* subtask : {"passkey", "needle"}) {
    EmbeddingPairOptions options;
    options.subtask = subtask, options.length = 90, options.documents = 40;
    const EmbeddingPairs pairs(options, nullptr, kVocabulary), again(options, nullptr, kVocabulary);
    std::set<std::vector<int32_t>> names;
    std::set<int64_t> thirds;
    for (int64_t i = 0; i < options.documents; ++i) {
      const std::vector<int32_t> document = pairs.document(i), query = pairs.query(i);
      EXPECT_EQ(document, again.document(i));
      EXPECT_EQ(document.size(), 90u);
      EXPECT_EQ(query.front(), 65);
      EXPECT_EQ(query.back(), 64);
      const std::vector<int32_t> name(query.begin() + 1, query.end() - 1);
      EXPECT_TRUE(names.insert(name).second);
      // needle, name, is, value; a pass key occurs twice.
      std::vector<int32_t> fact{66};
      fact.insert(fact.end(), name.begin(), name.end());
      fact.push_back(64);
      auto at = std::search(document.begin(), document.end(), fact.begin(), fact.end());
      ASSERT_NE(at, document.end()) << subtask << i;
      thirds.insert((at - document.begin()) / 30);
      const auto count = std::count(document.begin(), document.end(), 66);
      EXPECT_EQ(count, std::string(subtask) == "passkey" ? 2 : 1);
      EXPECT_EQ(std::count_if(document.begin(), document.end(), [](int32_t id) { return id < 32; }),
                count * (2 + options.digits));
    }
    EXPECT_EQ(thirds.size(), 3u) << "facts stand everywhere";
    options.seed = 43;
    EXPECT_NE(EmbeddingPairs(options, nullptr, kVocabulary).document(0), pairs.document(0));
    options.length = 8;
    EXPECT_THROW(EmbeddingPairs(options, nullptr, kVocabulary), Error);
  }
}

TEST(EmbeddingPairs, OfText) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json",
               read_whole(std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/gpt2/tokenizer.json"));
  folder.write("tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})");
  const auto tokenizer = Tokenizer::open(folder.path());
  for (const char* subtask : {"passkey", "needle"})
    for (const int64_t length : {300, 2000}) {
      EmbeddingPairOptions options;
      options.subtask = subtask, options.length = length, options.documents = 30;
      const EmbeddingPairs pairs(options, tokenizer.get(), tokenizer->vocabulary());
      const auto text = [&](const std::vector<int32_t>& tokens) {
        return tokenizer->decode(std::vector<uint32_t>(tokens.begin(), tokens.end()), true);
      };
      for (int64_t i = 0; i < 5; ++i) {
        const std::vector<int32_t> document = pairs.document(i);
        EXPECT_LE(static_cast<int64_t>(document.size()), length);
        EXPECT_GT(static_cast<int64_t>(document.size()), length - 60);
        const std::string query = text(pairs.query(i));
        const std::string name = query.substr(query.rfind(' ') + 1, query.size() - query.rfind(' ') - 2);
        for (int64_t other = 0; other < options.documents; ++other)
          EXPECT_EQ(text(pairs.document(other)).find(name) != std::string::npos, other == i) << name;
      }
      ASSERT_TRUE(tokenizer->eos());
      options.closed = true;
      const EmbeddingPairs closed(options, tokenizer.get(), tokenizer->vocabulary());
      EXPECT_EQ(closed.query(0).back(), static_cast<int32_t>(*tokenizer->eos()));
      EXPECT_EQ(closed.document(0).back(), static_cast<int32_t>(*tokenizer->eos()));
    }
}

}  // namespace
}  // namespace carillon::testing
