#include "data/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "data/chat/chat_tokens.h"
#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::TemporaryFolder;

// Turns in ChatML format.
const char* const kPlain =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% "
    "endif %}";
const char* const kMarked =
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% "
    "endgeneration %}"
    "{% else %}{{ m.content }}</s>{% endif %}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

std::vector<std::string> trained(const RenderedChat& chat) {
  std::vector<std::string> parts;
  for (const auto& [from, to] : chat.trained) parts.push_back(chat.text.substr(from, to - from));
  return parts;
}
std::vector<std::string> trained(const char* source, const char* row, TrainOn on = TrainOn::kAssistant) {
  return trained(ChatTemplate::from_text("t.jinja", source, "")->render(row, on, "rows.jsonl:3"));
}
// The message of the error that `work` throws, without its code.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return fmt::format("{} {}", static_cast<int>(error.code()), error.what());
  }
  return "no error";
}

const char* const kTwoTurns =
    R"({"messages": [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "ü!"},
  {"role": "user", "content": "b"}, {"role": "assistant", "content": "c \n"}]})";

TEST(ChatTemplate, TurnsAreFoundByPrefixes) {
  EXPECT_THAT(trained(kPlain, kTwoTurns), ElementsAre("ü!</s>", "c \n</s>"));
  EXPECT_THAT(trained(kPlain, kTwoTurns, TrainOn::kLastAssistant), ElementsAre("c \n</s>"));
}

TEST(ChatTemplate, TurnsAreFoundByGenerationBlocks) {
  EXPECT_THAT(trained(kMarked, kTwoTurns), ElementsAre("ü!</s>", "c \n</s>"));
  EXPECT_THAT(trained(kMarked, kTwoTurns, TrainOn::kLastAssistant), ElementsAre("c \n</s>"));
  EXPECT_TRUE(ChatTemplate::from_text("t", kMarked, "")->render(kTwoTurns, TrainOn::kAll, "x").all);
}

TEST(ChatTemplate, AnEarlierTurnWrittenDifferentlyIsRefused) {
  // A template that drops the thought of the first turn when the conversation continues.
  const char* const forgets =
      "{% for m in messages %}<{{ m.role }}>{{ m.content if loop.last else m.content.split('|')[-1] }}</s>\n{% endfor "
      "%}"
      "{% if add_generation_prompt %}<assistant>{% endif %}";
  const char* const row =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "think|b"},
    {"role": "user", "content": "c"}, {"role": "assistant", "content": "think|d"}]})";
  EXPECT_THAT(error_of([&] { trained(forgets, row); }), HasSubstr("65 message 2 (a turn that is trained)"));
  EXPECT_THAT(error_of([&] { trained(forgets, row); }), HasSubstr("rows.jsonl:3"));
  EXPECT_THAT(trained(forgets, row, TrainOn::kLastAssistant), ElementsAre("think|d</s>"));
  // A prompt that is not a prefix of the turn.
  EXPECT_THAT(error_of([&] {
                trained("{% for m in messages %}{{ m.content }}{% endfor %}{{ '<think>' if add_generation_prompt }}",
                        row);
              }),
              HasSubstr("65 message 2"));
}

TEST(ChatTemplate, PromptAndCompletion) {
  const char* const row =
      R"({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]})";
  EXPECT_THAT(trained(kPlain, row), ElementsAre("b</s>"));
  EXPECT_THAT(trained(kMarked, row), ElementsAre("b</s>"));
  const char* const after = R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})";
  EXPECT_THAT(trained(kPlain, after), ElementsAre("d</s>"));
  EXPECT_THAT(trained(kMarked, after), ElementsAre("d</s>"));
  const RenderedChat plain = ChatTemplate::from_text("t", kPlain, "")
                                 ->render(R"({"prompt": "2+2=", "completion": "4"})", TrainOn::kAssistant, "x");
  EXPECT_EQ(plain.text, "2+2=4");
  EXPECT_TRUE(plain.is_plain);
  EXPECT_THAT(plain.trained, ElementsAre(Pair(4, 5)));
}

TEST(ChatTemplate, ShareGptIsReadAsMessages) {
  EXPECT_THAT(trained(kPlain, R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})"),
              ElementsAre("b</s>"));
  EXPECT_THAT(error_of([&] { trained(kPlain, R"({"conversations": [{"from": "robot", "value": "a"}]})"); }),
              HasSubstr("65 message 1 is from 'robot'"));
}

TEST(ChatTemplate, RowsAreNormalisedAsInTransformers) {
  const auto text = [](const char* source, const char* row) {
    return ChatTemplate::from_text("t", source, "")->render(row, TrainOn::kAll, "x").text;
  };
  const char* const keys =
      "{% for m in messages %}{{ m.keys() | list | join(',') }};{% endfor %}{{ tools }}{{ x is defined }}{{ y }}";
  EXPECT_EQ(
      text(
          keys,
          R"({"messages": [{"role": "user", "content": "a", "tool_calls": null}], "x": null, "y": 123456789012345678901})"),
      "role,content;NoneFalse123456789012345678901");
  EXPECT_EQ(text(keys, R"({"messages": [{"role": "a", "reasoning": "r", "content": "a"}], "tools": null})"),
            "thinking,role,reasoning,content,reasoning_content;NoneFalse");
  EXPECT_EQ(text("{{ messages[0].content }}",
                 R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]})"),
            "[{'type': 'text', 'text': 'a'}]");
}

TEST(ChatTemplate, RowsThatCannotBeTrainedOn) {
  const auto refused = [](const char* row) { return error_of([&] { trained(kPlain, row); }); };
  EXPECT_THAT(refused(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"),
              HasSubstr("65 message 1 has content of type 'image', rows.jsonl:3"));
  EXPECT_THAT(refused(R"({"messages": []})"), HasSubstr("65 `messages`"));
  EXPECT_THAT(refused(R"({"messages": [{"content": "a"}]})"), HasSubstr("65 message 1 has no `role`"));
  EXPECT_THAT(refused(R"({"messages": [{"role": "user", "content": 5}]})"), HasSubstr("65 message 1"));
  EXPECT_THAT(refused(R"({"prompt": "a", "completion": []})"), HasSubstr("65 `prompt` and `completion`"));
  EXPECT_THAT(refused(R"({"text": "a"})"), HasSubstr("65 has neither"));
  EXPECT_THAT(refused(R"({"messages": [{"role": "user", "content": "a"}], "tools": "none"})"), HasSubstr("65 `tools`"));
  EXPECT_THAT(refused(R"({"messages")"), HasSubstr("65 is not valid JSON"));
}

TEST(ChatTemplate, RowsAsPrompts) {
  const auto prompt = [](const char* row) {
    return ChatTemplate::from_text("t.jinja", kMarked, "")->render_prompt(row, "rows.jsonl:3");
  };
  const RenderedChat chat = prompt(R"({"messages": [{"role": "user", "content": "a"}], "completion": "unseen"})");
  EXPECT_EQ(chat.text, "<user>a</s><assistant>");
  EXPECT_FALSE(chat.is_plain);
  EXPECT_EQ(prompt(R"({"conversations": [{"from": "human", "value": "a"}]})").text, chat.text);
  EXPECT_EQ(prompt(R"({"prompt": [{"role": "user", "content": "a"}]})").text, chat.text);
  EXPECT_EQ(prompt(R"({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant",
                       "content": "b"}]})")
                .text,
            chat.text);
  const RenderedChat plain = prompt(R"({"prompt": "a b", "completion": "c"})");
  EXPECT_EQ(plain.text, "a b");
  EXPECT_TRUE(plain.is_plain);
  EXPECT_THAT(error_of([&] { prompt(kTwoTurns); }),
              HasSubstr("65 the conversation ends with the assistant's turn, rows.jsonl:3"));
  EXPECT_THAT(error_of([&] { prompt(R"({"text": "a"})"); }), HasSubstr("65 has neither"));
}

TEST(ChatTemplate, TemplatesThatFail) {
  const char* const row = R"({"messages": [{"role": "user", "content": "a"}]})";
  EXPECT_THAT(error_of([] { trained("a\n{{ x | nosuch }}", "{}"); }),
              HasSubstr("64 the chat template cannot be read: No filter named 'nosuch'., t.jinja:2:8"));
  EXPECT_THAT(error_of([] { trained("{% include 'x' %}", "{}"); }), HasSubstr("64 "));
  EXPECT_THAT(error_of([&] { trained("{% if true %}{{ 1 | nosuch }}{% endif %}", row); }), HasSubstr("64 "));
  EXPECT_THAT(error_of([&] { trained("\n  {{ raise_exception('Roles must\nalternate') }}", row); }),
              HasSubstr("65 the chat template says: Roles must alternate (at t.jinja:2:"));
  EXPECT_THAT(error_of([&] {
                trained("{% for i in range(99999) %}{% for i in range(99999) %}x{% endfor %}{% endfor %}", row);
              }),
              HasSubstr("65 the chat template says: the template takes more steps"));
  EXPECT_THAT(
      error_of([&] {
        trained("{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", row);
      }),
      HasSubstr("65 "));
  EXPECT_THAT(error_of([&] { ChatTemplate::open("", "")->render(row, TrainOn::kAssistant, "rows.jsonl:3"); }),
              HasSubstr("64 holds messages, but the tokenizer has no chat template"));
  EXPECT_THAT(error_of([&] { ChatTemplate::open("nowhere.jinja", ""); }), HasSubstr("66 "));
}

TEST(ChatTemplate, LiesBesideTheTokenizer) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, const char* text) { std::ofstream(folder / name) << text; };
  const auto text = [&](const char* row) {
    return ChatTemplate::open("", folder.path())->render(row, TrainOn::kAll, "x").text;
  };
  const char* const row = R"({"messages": [{"role": "user", "content": "a"}]})";
  const char* const with_tools = R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "f"}]})";
  write(
      "tokenizer_config.json",
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ bos_token }}config{{ eos_token }}"})");
  EXPECT_EQ(text(row), "<s>config</s>");
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
  EXPECT_EQ(text(row), "D");
  EXPECT_EQ(text(with_tools), "T");
  write("chat_template.jinja", "file");
  EXPECT_EQ(text(row), "file");
  EXPECT_EQ(text(with_tools), "file");
  std::filesystem::create_directory(folder / "additional_chat_templates");
  write("additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(text(row), "file");
  EXPECT_EQ(text(with_tools), "tools");
}

// As in transformers 5.24: the map takes precedence over an older tokenizer_config.json; one with added_tokens_decoder
// is complete.
TEST(ChatTemplate, IsGivenEveryNamedToken) {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, const char* text) { std::ofstream(folder / name) << text; };
  const auto text = [&] {
    return ChatTemplate::open("", folder.path())
        ->render(R"({"messages": [{"role": "user", "content": "a"}]})", TrainOn::kAll, "x")
        .text;
  };
  write("chat_template.jinja", "{{ bos_token }}|{{ eos_token }}|{{ image_token }}|{{ pair }}");
  write("special_tokens_map.json", R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  EXPECT_EQ(text(), "<s>|</s>||");
  write("tokenizer_config.json",
        R"({"eos_token": "<e>", "image_token": "<i>", "extra_special_tokens": {"pair": "<p>"}})");
  EXPECT_EQ(text(), "<s>|</s>|<i>|<p>");
  write("tokenizer_config.json", R"({"eos_token": "<e>", "added_tokens_decoder": {}})");
  EXPECT_EQ(text(), "|<e>||");
}

TEST(ChatTemplate, Qwen3MarksTurnsThatItsOwnTemplateRewrites) {
  const auto qwen3 = ChatTemplate::open("qwen3", "");
  const char* const row =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nt\n</think>\n\nb"},
    {"role": "user", "content": "c"}, {"role": "assistant", "reasoning_content": "u", "content": "d"}]})";
  const RenderedChat chat = qwen3->render(row, TrainOn::kAssistant, "x");
  EXPECT_EQ(chat.text,
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nu\n</think>\n\nd<|im_end|>\n");
  EXPECT_THAT(trained(chat), ElementsAre("b<|im_end|>", "<think>\nu\n</think>\n\nd<|im_end|>"));
  EXPECT_THAT(trained(qwen3->render(row, TrainOn::kLastAssistant, "x")),
              ElementsAre("<think>\nu\n</think>\n\nd<|im_end|>"));
}

TEST(ChatTemplate, GenerationInsideGenerationIsTrainedOnce) {
  const auto nested = ChatTemplate::from_text("t",
                                              "{% for m in messages %}{% generation %}<{% generation %}{{ m.content "
                                              "}}{% endgeneration %}>{% endgeneration %};{% endfor %}",
                                              "");
  const RenderedChat chat =
      nested->render(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
                     TrainOn::kAssistant, "x");
  EXPECT_EQ(chat.text, "<a>;<b>;");
  EXPECT_THAT(trained(chat), ElementsAre("<a>", "<b>"));
}

TEST(ChatTemplate, ChatMlMarksTheAssistantAndRefusesTools) {
  const auto chatml = ChatTemplate::open("chatml", "");
  const char* const row =
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  const RenderedChat chat = chatml->render(row, TrainOn::kAssistant, "x");
  EXPECT_EQ(chat.text,
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n");
  EXPECT_THAT(trained(chat), ElementsAre("b<|im_end|>", "d<|im_end|>"));
  EXPECT_THAT(trained(chatml->render(row, TrainOn::kLastAssistant, "x")), ElementsAre("d<|im_end|>"));
  for (
      const char* const beyond :
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]})",
       R"({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}]})"})
    EXPECT_THROW(chatml->render(beyond, TrainOn::kAssistant, "x"), Error);
}

TEST(ChatTokens, WeighTheTokensThatOverlapWhatIsTrained) {
  const auto tokenizer = Tokenizer::open(std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/gpt2");
  const auto chat = ChatTemplate::from_text("t", kPlain, "");
  const RenderedChat rendered = chat->render(
      R"({"messages": [{"role": "user", "content": "Grüße 🙂"}, {"role": "assistant", "content": "漢字 and 🙂"}]})",
      TrainOn::kAssistant, "x");
  const ChatTokens tokens = tokenize_chat(rendered, *tokenizer, std::nullopt, "x");
  EXPECT_EQ(tokens.tokens, tokenizer->encode(rendered.text, false));
  ASSERT_EQ(tokens.weights.size(), tokens.tokens.size());
  std::vector<uint32_t> targets;
  for (size_t i = 0; i < tokens.tokens.size(); ++i)
    if (tokens.weights[i] > 0) targets.push_back(tokens.tokens[i]);
  EXPECT_THAT(tokenizer->decode(targets, false), HasSubstr("漢字 and 🙂</s>"));
  EXPECT_THAT(tokenizer->decode(targets, false), ::testing::Not(HasSubstr("assistant")));
  EXPECT_TRUE(
      tokenize_chat(chat->render(kTwoTurns, TrainOn::kAll, "x"), *tokenizer, std::nullopt, "x").weights.empty());
  // A plain completion, followed by the end of the document.
  const ChatTokens plain =
      tokenize_chat(chat->render(R"({"prompt": "two and two is", "completion": " four"})", TrainOn::kAssistant, "x"),
                    *tokenizer, 50256, "x");
  EXPECT_EQ(plain.tokens.back(), 50256U);
  EXPECT_EQ(plain.weights.front(), 0.0);
  EXPECT_EQ(plain.weights.back(), 1.0);
  EXPECT_EQ(plain.weights.size(), plain.tokens.size());
}

TEST(ChatTokens, RangesCoverTheTextInOrder) {
  const std::string text = "a  b\n\n漢字🙂é <|endoftext|>\tx";
  for (const char* name : {"gpt2", "llama3", "qwen2", "smollm"}) {
    const std::string path = std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/" + name;
    if (!std::filesystem::exists(path)) continue;
    const auto tokenizer = Tokenizer::open(path);
    const auto ranges = token_ranges(text, tokenizer->encode(text, false), *tokenizer);
    ASSERT_TRUE(ranges) << name;
    size_t covered = 0;
    for (const auto& [from, to] : *ranges) {
      EXPECT_LE(from, covered) << name;
      covered = std::max(covered, to);
    }
    EXPECT_EQ(covered, text.size()) << name;
  }
}

}  // namespace
}  // namespace carillon
