// carillon generate: continues a prompt, or every prompt of a file.
#include <algorithm>

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "data/tokenizer/token_configuration.h"
#include "launch/commands/commands.h"
#include "launch/inference/generator.h"
#include "launch/inference/score_documents.h"
#include "launch/session/model_weights.h"
#include "launch/session/session.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

struct GenerateConfig {
  std::string model;
  std::optional<std::string> prompt, input, output, tokenizer, chat_template, adapter;
  std::optional<std::vector<int32_t>> tokens;
  int64_t max_new_tokens = 64;
  double temperature = 0, top_p = 1;
  int64_t top_k = 0, seed = 42;
  std::vector<int64_t> stop;
  bool stop_at_end = true, overwrite = false;
  RopeSection rope;
  ParallelSection parallel;
  RuntimeSection runtime;
};

std::vector<int64_t> read_ids(const char* name, const YamlNode& node) {
  Key key;
  key.name = name;
  key.type = "integers";
  key.at_least(0).at_most(INT32_MAX);  // the range of an id's type
  if (node.kind != YamlNode::Kind::kSequence)
    fail(ExitCode::kUsage, "{} is not a list, {}, write [1, 2]", name, node.where);
  std::vector<int64_t> ids;
  for (const YamlNode& item : node.items) ids.push_back(detail::read_integer(key, item));
  return ids;
}

void declare(Schema& schema, GenerateConfig& config) {
  schema.section("", "Prompts and sampling.");
  schema.text("model", config.model, "Model file, checkpoint, run folder, Hugging Face or PEFT folder.").required();
  declare_adapter_path(schema, config.adapter);
  schema.text("prompt", config.prompt, "The text to continue.").verbatim();
  schema.custom(
      "tokens", "list of integers", "The prompt as token ids, instead of text.",
      [&config](const YamlNode& node) {
        const std::vector<int64_t> ids = read_ids("tokens", node);
        config.tokens = std::vector<int32_t>(ids.begin(), ids.end());
      },
      [&config] { return config.tokens ? std::optional<Json>(*config.tokens) : std::nullopt; });
  schema.text("input", config.input,
              "Several prompts: JSON lines, each with `tokens`, `text`, `prompt` or `messages` (followed by the "
              "template's generation prompt), and an optional `id` of any type.");
  schema
      .text("output", config.output,
            "JSON lines in the order of the input: id, tokens (only the generated ones), text.")
      .default_is("standard output");
  schema.text("tokenizer", config.tokenizer, "Folder or tokenizer.json.").default_is("the model's");
  schema
      .text("chat_template", config.chat_template,
            "Template for conversations: a file, or the built-in chatml or qwen3.")
      .default_is("the tokenizer's");
  schema.integer("max_new_tokens", config.max_new_tokens, "Maximum number of tokens to generate.")
      .at_least(1)
      .at_most(1 << 30)
      .aliases({"max_tokens", "max_length", "n_predict", "num_tokens"});
  schema.number("temperature", config.temperature, "Sampling temperature. 0: greedy, always the most likely token.")
      .at_least(0);
  schema.integer("top_k", config.top_k, "Samples from this many most likely tokens; 0: from all.").at_least(0);
  schema.number("top_p", config.top_p, "Samples from the most likely tokens whose probabilities add up to this.")
      .above(0)
      .at_most(1);
  schema.integer("seed", config.seed, "Seed for sampling; gives the same tokens on every layout.");
  schema.custom(
      "stop", "list of integers", "Token ids that end generation, in addition to the model's own.",
      [&config](const YamlNode& node) { config.stop = read_ids("stop", node); },
      [&config] { return std::optional<Json>(config.stop); });
  schema.boolean(
      "stop_at_end", config.stop_at_end,
      "Whether the model's end tokens (generation_config.json, config.json, the tokenizer) end generated text.");
  schema.boolean("overwrite", config.overwrite, "Allows an output to replace a file that carillon did not write.");
  declare_rope(schema, config.rope);
  declare_parallel(schema, config.parallel);
  declare_runtime(schema, config.runtime);
}

// Returns the prompts with their ids. Errors 64 to 66.
std::vector<ScoreDocument> read_prompts(const GenerateConfig& config, int64_t vocabulary,
                                        const std::function<TextTools()>& open_tools) {
  if (config.input) {
    DocumentReaderOptions options;
    options.vocabulary = vocabulary;
    options.open_tools = open_tools;
    options.prompts = true;
    return read_score_documents(find_data_files({*config.input}).paths, options);
  }
  std::vector<int32_t> tokens;
  if (config.tokens) {
    tokens = *config.tokens;
  } else {
    const std::vector<uint32_t> ids = open_tools().tokenizer->encode(*config.prompt, true);
    tokens.assign(ids.begin(), ids.end());
  }
  if (tokens.empty()) fail(ExitCode::kUsage, "the prompt is empty, generate, give at least one token");
  for (const int32_t token : tokens)
    if (token < 0 || token >= vocabulary)
      fail(ExitCode::kUsage, "token {} is not below {}, tokens, the model's vocabulary is smaller", token, vocabulary);
  return {{0, tokens}};
}

// Returns the end tokens as in transformers' generate(): a model may have several (end of text, end of turn), while its
// tokenizer names only one.
std::vector<int64_t> end_tokens(const OpenedModel& model, const Tokenizer& tokenizer) {
  const auto files = model.source->tokenizer_files();
  const auto generation = files.find("generation_config.json");
  std::vector<int64_t> ends;
  if (generation != files.end())
    ends = generation_end_tokens(generation->second, model.source->path() + " (generation_config.json)");
  if (ends.empty()) ends = model.config.eos_token_id;
  if (tokenizer.eos()) ends.push_back(*tokenizer.eos());
  return ends;
}

}  // namespace

std::string help_generate() {
  GenerateConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_generate(Program& program, const CommandLine& line) {
  GenerateConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& file : line.files)
    fail(ExitCode::kUsage, "generate takes key=value arguments only, {}, write prompt=…", file);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("generate");
  if (config.prompt.has_value() + config.tokens.has_value() + config.input.has_value() != 1)
    fail(ExitCode::kUsage, "generate takes one of prompt, tokens and input, on the command line, give exactly one");

  if (config.temperature == 0)
    for (const char* key : {"top_k", "top_p", "seed"})
      if (schema.given(key))
        program.notice()(
            fmt::format("{} has no effect at temperature 0, {}, add temperature=1", key, schema.where(key)));

  Session session(program.make_world(), config.parallel, config.runtime, program.notice());
  session.open_model(config.model, config.rope.settings, config.adapter.value_or(""));
  session.open_tokenizer(config.tokenizer.value_or(""));
  const OpenedModel& model = session.model();
  const Tokenizer* tokenizer = session.tokenizer();
  std::vector<ScoreDocument> documents;
  std::vector<std::vector<int32_t>> prompts;
  std::unique_ptr<OutputFile> output;
  std::unique_ptr<ChatTemplate> chat;
  agree(session.world(), [&] {
    if (config.chat_template) (void)ChatTemplate::open(config.chat_template, nullptr);
    documents = read_prompts(config, model.config.vocab_size, [&] {
      if (!tokenizer)
        fail(ExitCode::kUsage,
             "the prompt is text, but {} has no tokenizer, generate, add tokenizer=PATH or give tokens",
             model.source->path());
      chat = ChatTemplate::open(config.chat_template, tokenizer);
      return TextTools{tokenizer, chat.get()};
    });
    for (const ScoreDocument& document : documents) prompts.push_back(document.tokens);
    if (!config.output || !session.main_rank()) return;
    check_output(*config.output,
                 {config.input.value_or(""), config.model, config.adapter.value_or(""), config.tokenizer.value_or(""),
                  config.chat_template.value_or("")},
                 OutputKind::kCompletions, config.overwrite);
    output = std::make_unique<OutputFile>(*config.output);
  });

  session.start_device();
  session.make_grid();
  ModelWeights weights(session.backend(), session.grid(), model.config, config.runtime.dtype);
  session.load_weights(weights.parameters());
  Generator generator(session.backend(), session.grid(), model.config, config.runtime.dtype, config.parallel.layout,
                      weights.parameters());
  Generator::Request request{config.max_new_tokens,
                             config.stop,
                             {config.temperature, config.top_k, config.top_p, static_cast<uint64_t>(config.seed)}};
  if (config.stop_at_end && tokenizer)
    agree(session.world(), [&] {
      for (const int64_t end : end_tokens(model, *tokenizer)) request.stop.push_back(end);
    });
  const Activity activity("generating");
  int64_t without_text = 0;
  generator.generate(prompts, request, [&](size_t index, const std::vector<int64_t>& tokens) {
    Json record = {{"id", documents[index].id}, {"tokens", tokens}};
    if (tokenizer) {
      without_text +=
          std::count_if(tokens.begin(), tokens.end(), [&](int64_t token) { return token >= tokenizer->vocabulary(); });
      record["text"] = tokenizer->decode(std::vector<uint32_t>(tokens.begin(), tokens.end()), /*skip_special=*/true);
    }
    const std::string text = record.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (output)
      output->write(text + "\n");
    else if (config.prompt && !line.json)
      fmt::print("{}{}\n", *config.prompt, record["text"].get<std::string>());
    else
      fmt::print("{}\n", text);
  });
  agree(session.world(), [&] {
    if (output) output->commit();
  });
  if (without_text > 0)
    program.warning(fmt::format(
        "{} generated tokens have no text: the vocabulary of the model has {} ids and its tokenizer {}, {}, check that "
        "it is the model's own",
        without_text, model.config.vocab_size, tokenizer->vocabulary(), printable(tokenizer->path())));
  return ExitCode::kDone;
}

}  // namespace carillon
