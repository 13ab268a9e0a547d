// Prompts as text: they fit, the fact is at its depth, and answers are scored in their usual forms. Over token ids, and
// against a second implementation: tests/launch/tasks_test.py.
#include "data/tasks/retrieval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/error.h"

namespace carillon::testing {
namespace {

using ::testing::HasSubstr;

class TextPrompts : public ::testing::Test {
 protected:
  Retrieval make(const std::string& task, int64_t length = 1500) const {
    RetrievalOptions options;
    options.task = task;
    options.length = length;
    return Retrieval(options, tokenizer_.get(), tokenizer_->vocabulary());
  }
  std::string text_of(const RetrievalSample& sample) const {
    return tokenizer_->decode(std::vector<uint32_t>(sample.prompt.begin(), sample.prompt.end()), true);
  }
  double scored(const Retrieval& task, const RetrievalSample& sample, const std::string& answer) const {
    const std::vector<uint32_t> ids = tokenizer_->encode(answer, false);
    return task.score(sample, std::vector<int64_t>(ids.begin(), ids.end()));
  }
  std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::open(std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/gpt2");
};

TEST_F(TextPrompts, AreAsLongAsTheyMayBe) {
  std::vector<std::string> tasks = ruler_subtasks();
  tasks.insert(tasks.end(), {"passkey", "needle"});
  for (const std::string& name : tasks)
    for (const int64_t length : {3000, 12000}) {
      const Retrieval task = make(name, length);
      for (int64_t i = 0; i < 5; ++i) {
        const auto tokens = static_cast<int64_t>(task.sample(i, 0.25 * static_cast<double>(i)).prompt.size());
        EXPECT_LE(tokens + task.new_tokens(), length) << name;
        // Words that occur thirty times differ in token count between samples.
        const bool words = name == "cwe" || name == "fwe";
        EXPECT_GT(tokens + task.new_tokens(), words ? length * 4 / 5 : length - 150) << name;
      }
    }
}

TEST_F(TextPrompts, TheKeyStandsAtItsDepth) {
  const Retrieval task = make("passkey");
  for (const double depth : {0.0, 0.3, 1.0}) {
    const RetrievalSample sample = task.sample(3, depth);
    const std::string text = text_of(sample);
    const size_t at = text.find("The pass key is " + sample.references[0]);
    ASSERT_NE(at, std::string::npos);
    EXPECT_NEAR(static_cast<double>(at) / static_cast<double>(text.size()), depth, 0.08);
    EXPECT_TRUE(text.ends_with("The pass key is"));
  }
  EXPECT_NE(task.sample(3, 0).references, task.sample(4, 0).references);
}

TEST_F(TextPrompts, AnswersAreScoredAsWritten) {
  const Retrieval passkey = make("passkey");
  const RetrievalSample key = passkey.sample(0, 0.5);
  EXPECT_EQ(scored(passkey, key, " " + key.references[0] + ". The barn is red."), 1);
  EXPECT_EQ(scored(passkey, key, " " + key.references[0] + "1"), 0);
  EXPECT_EQ(scored(passkey, key, " I do not know"), 0);
  const Retrieval needle = make("needle");
  const RetrievalSample fact = needle.sample(0, 0.5);
  EXPECT_THAT(text_of(fact), HasSubstr("roasted chestnuts"));
  EXPECT_NEAR(scored(needle, fact, " eat Roasted things"), 1.0 / 3, 1e-12);
  const Retrieval query = make("niah_multiquery");
  const RetrievalSample four = query.sample(0, 0.5);
  ASSERT_EQ(four.references.size(), 4u);
  EXPECT_EQ(scored(query, four, " " + four.references[2] + " and " + four.references[0]), 0.5);
  EXPECT_EQ(make("niah_multivalue").sample(0, 0).references.size(), 4u);
  EXPECT_EQ(make("vt").sample(0, 0).references.size(), 5u);
  EXPECT_EQ(make("cwe").sample(0, 0).references.size(), 10u);
  EXPECT_EQ(make("fwe").sample(0, 0).references.size(), 3u);
}

TEST_F(TextPrompts, AHaystackOfOnesOwn) {
  RetrievalOptions options;
  options.task = "needle";
  options.length = 400;
  options.needle = "Carillons are played with fists.";
  options.question = "How are carillons played? They are played with";
  options.keywords = {"fists"};
  options.haystack_text = "Bells hang in towers. Some are old!\nWho rings them?";
  const Retrieval task(options, tokenizer_.get(), tokenizer_->vocabulary());
  const RetrievalSample sample = task.sample(0, 0);
  EXPECT_TRUE(text_of(sample).starts_with(
      "Carillons are played with fists. Bells hang in towers. Some are old! Who rings them? Bells"));
  EXPECT_EQ(scored(task, sample, " Fists"), 1);
}

TEST_F(TextPrompts, WhatCannotBeIsSaid) {
  EXPECT_THROW(make("vt", 60), Error);
  RetrievalOptions options;
  options.task = "passkey";
  options.length = 100;
  EXPECT_THROW(Retrieval(options, nullptr, 8), Error);
}

}  // namespace
}  // namespace carillon::testing
