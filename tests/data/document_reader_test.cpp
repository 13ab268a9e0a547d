// Documents are the same and in order for all batch sizes and thread counts; an error is reported at its line.
#include "data/corpus/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

const std::string kTokenizer = std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/llama3";

std::vector<std::vector<uint32_t>> read_all(const std::string& path, const Tokenizer& tokenizer) {
  DocumentReader reader({path}, {&tokenizer, std::nullopt, tokenizer.vocabulary()});
  std::vector<std::vector<uint32_t>> documents;
  for (Document document; reader.next(document);) documents.push_back(document.tokens);
  return documents;
}

// Lines of many lengths, so that batches end everywhere; more than the first few batches hold.
std::string many_lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    std::string line = "Line " + std::to_string(i) + ", it's the quick brown fox";
    for (int word = i * 7 % 50; word > 0; --word) line += " naïve " + std::to_string(word * i);
    text += R"({"text": ")" + line + "\"}\n";
  }
  return text;
}

TEST(DocumentReader, ThreadsGiveTheTokensOfOne) {
  const TemporaryFolder folder;
  const std::string path = folder.write("many.jsonl", many_lines(20000));
  const auto tokenizer = Tokenizer::open(kTokenizer);
  const auto several = read_all(path, *tokenizer);
  std::vector<std::vector<uint32_t>> alone;
  std::thread([&] {  // its threads inherit the one processor
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    alone = read_all(path, *tokenizer);
  })
      .join();
  EXPECT_EQ(several.size(), 20000u);
  EXPECT_EQ(several, alone);
}

TEST(DocumentReader, AnErrorComesAfterTheDocumentsBeforeIt) {
  const TemporaryFolder folder;
  const std::string path = folder.write("bad.jsonl", many_lines(500) + "{broken\n" + many_lines(10));
  const auto tokenizer = Tokenizer::open(kTokenizer);
  DocumentReader reader({path}, {tokenizer.get(), std::nullopt, tokenizer->vocabulary()});
  Document document;
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(reader.next(document)) << i;
  try {
    reader.next(document);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("bad.jsonl:501"));
  }
}

// Tables of several kinds of rows write null where a row lacks a column.
TEST(DocumentReader, NullColumnsAreAbsent) {
  const TemporaryFolder folder;
  const std::string path =
      folder.write("table.jsonl", R"({"tokens": null, "text": "a", "loss_mask": null, "labels": null}
{"tokens": [1, 2], "text": null, "loss_mask": null, "labels": [-100, 2], "messages": null}
{"tokens": null, "text": null, "messages": null, "prompt": "a", "completion": " b", "loss_mask": null}
{"tokens": null, "text": null}
)");
  const auto tokenizer = Tokenizer::open(kTokenizer);
  const auto chat = ChatTemplate::open(std::nullopt, tokenizer.get());
  DocumentReaderOptions options{tokenizer.get(), std::nullopt, tokenizer->vocabulary()};
  options.chat = chat.get();
  DocumentReader reader({path}, options);
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.tokens, tokenizer->encode("a", true));
  EXPECT_TRUE(document.weights.empty());
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.tokens, (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(document.weights, (std::vector<double>{0, 1}));
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.tokens, tokenizer->encode("a b", true));
  try {
    reader.next(document);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("table.jsonl:4"));
  }
}

// Blank lines hold nothing, however many there are: whoever reads is asked between batches whether to go on.
TEST(DocumentReader, AFloodOfBlankLinesCanBeStopped) {
  const TemporaryFolder folder;
  const std::string path = folder.write("blank.jsonl", std::string(size_t{80} << 20, '\n') + "{\"tokens\":[1]}\n");
  int asked = 0;
  DocumentReaderOptions options{nullptr, std::nullopt, 10};
  options.between_batches = [&] { ++asked; };
  DocumentReader reader({path}, options);
  Document document;
  EXPECT_TRUE(reader.next(document));
  EXPECT_EQ(document.line, (80 << 20) + 1);
  EXPECT_GE(asked, 9);
}

TEST(DocumentReader, AReaderMayBeLeftEarly) {
  const TemporaryFolder folder;
  const std::string path = folder.write("many.jsonl", many_lines(20000));
  const auto tokenizer = Tokenizer::open(kTokenizer);
  DocumentReader reader({path}, {tokenizer.get(), std::nullopt, tokenizer->vocabulary()});
  Document document;
  EXPECT_TRUE(reader.next(document));
}

}  // namespace
}  // namespace carillon::testing
