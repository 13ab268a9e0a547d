// Texts and their tokenisation: tokenizer.json and its regular expressions, SentencePiece models, the other files of a
// tokenizer, chat templates with their rows, rows of data, compressed files.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/chat/chat_template.h"
#include "data/chat/json.h"
#include "data/chat/template.h"
#include "data/corpus/document_reader.h"
#include "data/files/unpacked_file.h"
#include "data/tokenizer/regular_expression.h"
#include "data/tokenizer/sentence_piece.h"
#include "data/tokenizer/sentence_piece_file.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "runtime/error.h"
#include "tests/fuzz/formats_targets.h"

namespace carillon::fuzz {
namespace {

constexpr std::string_view kText = "Hello  it's 1234 caf\u00e9 \u65e5\u672c \U0001F600 <s>\n\n tok";
constexpr size_t kLongText = 1 << 12;  // a backtracking engine is slow on longer texts

void check_spans(const std::vector<uint32_t>& ids, const std::vector<size_t>& ends, size_t bytes) {
  require(ids.size() == ends.size(), "not one end a token");
  require(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() || ends.back() <= bytes),
          "tokens end beyond their text");
}

void use_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<size_t> ends;
  const auto ids = tokenizer.encode(text, true, &ends);
  check_spans(ids, ends, text.size());
  for (const uint32_t id : ids) require(id < tokenizer.vocabulary(), "an id beyond the vocabulary");
  const std::string back = tokenizer.decode(ids, false);
  require(first_invalid_utf8(back) == std::string_view::npos, "decoded text is no UTF-8");
  tokenizer.decode(ids, true);
}

void run_tokenizer(std::string_view bytes) {
  const auto parts = parts_of(bytes, 2);
  const auto tokenizer = Tokenizer::from_json("tokenizer.json", parts[0], parts[1]);
  use_tokenizer(*tokenizer, kText);
}

// The pipelines from the comparison with Hugging Face's library, each with its vocabulary.
std::vector<std::string> pipelines(const std::string& source) {
  const auto file = nlohmann::json::parse(text_of(source + "/tests/golden/tokenizers/fuzz.json"));
  std::vector<std::string> texts;
  for (const auto& one : file.at("cases")) {
    nlohmann::json whole = one.at("pipeline"), model = file.at("models").at(one.at("base").get<size_t>());
    model.update(whole.at("model"));
    whole["model"] = model;
    texts.push_back(whole.dump());
  }
  texts.front() += std::string(kParting) + R"({"eos_token":{"content":"</s>"},"chat_template":"{{ messages }}"})";
  return texts;
}

// Texts, encoded by fixed tokenizers.
void run_tokenizer_text(std::string_view bytes) {
  static const auto tokenizers = [] {
    std::vector<std::unique_ptr<Tokenizer>> list;
    for (const char* name : {"gpt2", "llama2", "llama3", "qwen2"})
      list.push_back(Tokenizer::open(std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/" + name));
    return list;
  }();
  const bool good = first_invalid_utf8(bytes) == std::string_view::npos;
  for (const auto& tokenizer : tokenizers) {
    use_tokenizer(*tokenizer, bytes);  // throws if the text is not UTF-8
    require(good, "text that is no UTF-8 was taken");
  }
  // Any bytes survive encoding and decoding.
  const auto ids = tokenizers[0]->encode(bytes, false);
  require(tokenizers[0]->decode(ids, false) == bytes, "GPT-2's tokens are not the text they are of");
}

void run_regular_expression(std::string_view bytes) {
  const auto parts = parts_of(bytes, 2);
  const RegularExpression expression(parts[0], "tokenizer.json");
  const std::string text = parts[1].empty() ? std::string(kText) : parts[1].substr(0, kLongText);
  if (first_invalid_utf8(text) != std::string_view::npos) return;
  size_t last = 0;
  for_each_match(expression, text, [&](size_t begin, size_t end) {
    require(last <= begin && begin <= end && end <= text.size(), "matches overlap or leave their text");
    last = end;
  });
}

void run_sentence_piece_file(std::string_view bytes) {
  const auto file = SentencePieceFile::parse(std::string(bytes), "tokenizer.model");
  require(file.pieces.size() <= bytes.size(), "more pieces than bytes");
}

// Runs Debian's library, which is not instrumented, so memory errors in it show only if it crashes.
void run_sentence_piece(std::string_view bytes) {
  const SentencePieceTokenizer tokenizer("tokenizer.model", std::string(bytes), {});
  use_tokenizer(tokenizer, kText);
}

std::string field(int number, std::string_view value) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(value.size())} + std::string(value);
}

// A BPE model with the pieces <unk>, <s>, </s>, all bytes, and some letters.
std::string small_sentence_piece() {
  const auto piece = [](std::string_view text, int kind) {
    return field(1, field(1, text) + std::string("\x15\0\0\0\0", 5) + '\x18' + static_cast<char>(kind));
  };
  std::string model = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3);
  for (int byte = 0; byte < 256; ++byte) model += piece(fmt::format("<0x{:02X}>", byte), 6);
  for (const char* text : {"\u2581", "a", "b", "ab", "\u2581ab"}) model += piece(text, 1);
  return model + field(2, std::string("\x18\x02\xb8\x01\x01", 5)) + field(3, std::string("\x18\x01\x20\x01", 4));
}

jinja::Limits small_limits() {
  jinja::Limits limits;
  limits.steps = 300'000;
  limits.output_bytes = 1 << 20;
  return limits;
}

const char* const kRow =
    R"({"messages":[{"role":"user","content":"a b <think>é</think>"},{"role":"assistant","content":[{"type":"text","text":"c"}],)"
    R"("tool_calls":[{"function":{"name":"f","arguments":{"x":[1,2.5,null,true,123456789012345678901234567890]}}}]}],"n":3,)"
    R"("s":"aß","tools":[{"name":"f"}]})";

// A template and its row (a fixed row if the input has none).
void run_chat(std::string_view bytes) {
  const auto parts = parts_of(bytes, 2);
  const std::string row = parts[1].empty() ? kRow : parts[1];
  try {
    jinja::Heap heap;
    const jinja::Value value = jinja::read_json(heap, row);
    std::vector<std::pair<std::string, jinja::Value>> variables;
    if (value.is(jinja::Kind::kDict))
      for (const auto& [key, entry] : value.dict().entries) variables.emplace_back(key.text(), entry);
    const auto made = jinja::Template(parts[0]).render(variables, small_limits());
    require(made.text.size() <= (1U << 20), "a template wrote more than it may");
  } catch (const jinja::TemplateError&) {
    return;
  } catch (const std::invalid_argument&) {
    return;
  }
  // Cheap, because conversations are limited as in real use.
  const auto chat = ChatTemplate::from_text("chat_template.jinja", parts[0], "");
  const auto made = chat->render(row, TrainOn::kAssistant, "rows.jsonl:1");
  size_t last = 0;
  for (const auto& [from, to] : made.trained) {
    require(last <= from && from < to && to <= made.text.size(), "trained bytes overlap or leave their text");
    last = to;
  }
}

std::vector<std::string> chat_seeds(const std::string& source) {
  std::vector<std::string> texts = {
      std::string(built_in_chat_template("qwen3")),
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}{% "
      "endgeneration %}{% else %}{{ m['content'] }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}<a>{% endif "
      "%}",
      "{%- set ns = namespace(a=[1, 2.5, 'x']) -%}{% macro f(a, b=1) %}{{ a ~ b }}{% endmacro %}{% call f(2) %}{% "
      "endcall "
      "%}{{ ns.a[::-1] | tojson(indent=2) }}{{ '%5.2f' % 1 }}{{ '{:>9}'.format(s) }}{% for i in range(3) %}{% if "
      "loop.last "
      "%}{% break %}{% endif %}{{ loop.index0 }}{% endfor %}"};
  for (std::string& text : texts_below(source + "/tests/golden", "chat_template.jinja"))
    texts.push_back(std::move(text));
  texts.push_back(joined({texts[1], kRow}));
  return texts;
}

void read_rows(const std::string& path) {
  static const auto tokenizer = Tokenizer::open(std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/gpt2");
  static const auto chat = ChatTemplate::from_text(
      "chat_template.jinja", "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}", "");
  DocumentReaderOptions options;
  options.tokenizer = tokenizer.get();
  options.chat = chat.get();
  options.vocabulary = tokenizer->vocabulary();
  options.count_bytes = options.keep_ids = true;
  DocumentReader reader({path}, options);
  Document document;
  while (reader.next(document)) {
    require(document.weights.empty() || document.weights.size() == document.tokens.size(), "not one weight a token");
    for (const uint32_t token : document.tokens) require(token < options.vocabulary, "an id beyond the vocabulary");
    for (const double weight : document.weights) require(weight >= 0 && weight < 1e300, "a weight that is none");
  }
  require(reader.targets() <= reader.tokens(), "more targets than tokens");
}
void run_rows(std::string_view bytes) { read_rows(write_file("rows.jsonl", bytes)); }

// The first byte selects the compression of the rest.
void run_packed(std::string_view bytes) {
  if (bytes.empty()) return;
  const bool gzip = bytes[0] == 'g';
  UnpackedFile file(write_file(gzip ? "rows.jsonl.gz" : "rows.jsonl.zst", bytes.substr(1)),
                    gzip ? Packer::kGzip : Packer::kZstd);
  std::string line;
  for (int count = 0; count < 1000 && file.line(line, 1 << 20); ++count) {
  }
}

const char* const kRows =
    "{\"tokens\":[1,2,3],\"loss_mask\":[0,1,0.5],\"id\":7}\n{\"text\":\"caf\\u00e9\"}\n\n"
    "{\"prompt\":\"a\",\"completion\":\" b\"}\n{\"tokens\":[4,5],\"labels\":[-100,5]}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\"}]}\n"
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"x\"},{\"from\":\"gpt\",\"value\":\"y\"}]}\n";

}  // namespace

std::vector<Target> text_targets() {
  const auto of = [](std::vector<std::string> texts) { return [texts](const std::string&) { return texts; }; };
  const std::string model = small_sentence_piece();
  return {
      {"tokenizer", run_tokenizer, pipelines},
      {"tokenizer_text", run_tokenizer_text,
       of({std::string(kText), "def f(x):\n\treturn x  # \u0645\u0631\u062d\u0628\u0627\r\n\r\n",
           "<|endoftext|> e\u0301\u0323"})},
      {"regular_expression", run_regular_expression,
       of({R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
           "(?:a*)*b", R"([[:punct:]&&[^a]]|\bw{,3}\w+)", joined({R"((?<=a)\p{Han}+|(.)\1)", "a\u65e5\u672cbb"})})},
      {"sentence_piece_file", run_sentence_piece_file, of({model})},
      {"sentence_piece", run_sentence_piece, of({model})},
      {"chat", run_chat, chat_seeds},
      {"rows", run_rows, of({kRows})},
      // "x\n" compressed by gzip and by zstd.
      {"packed", run_packed,
       of({std::string("g\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xe0\x02\0\x1f\x6c\x9b\x0b\x02\0\0\0", 23),
           std::string("z\x28\xb5\x2f\xfd\x20\x02\x11\0\0x\n", 12)})},
  };
}

}  // namespace carillon::fuzz
