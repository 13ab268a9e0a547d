// carillon score: the log-probability of every token of every document.
#include <algorithm>
#include <filesystem>

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "data/files/same_files.h"
#include "launch/commands/commands.h"
#include "launch/inference/embedder.h"
#include "launch/inference/scorer.h"
#include "launch/session/session.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

struct ScoreConfig {
  std::string model, input, output;
  std::optional<std::string> tokenizer, chat_template, adapter;
  bool overwrite = false;
  std::optional<Pooling> embedding;
  RopeSection rope;
  ParallelSection parallel;
  RuntimeSection runtime;
};

void declare(Schema& schema, ScoreConfig& config) {
  schema.section("", "What is scored.");
  schema.text("model", config.model, "Model file, checkpoint, run folder, Hugging Face or PEFT folder.").required();
  declare_adapter_path(schema, config.adapter);
  schema
      .text("input", config.input,
            "Rows as in training (JSON lines with `tokens`, `text` or `messages`; also .gz, .zst, folders and "
            "patterns), each with an optional `id` of any type.")
      .required();
  schema.text("output", config.output, "JSON lines in the order of the input: id, tokens, logprobs, loss.").required();
  schema.text("tokenizer", config.tokenizer, "Folder or tokenizer.json; needed only for text.")
      .default_is("the model's");
  schema
      .text("chat_template", config.chat_template,
            "Template for conversations: a file, or the built-in chatml or qwen3.")
      .default_is("the tokenizer's");
  schema.choice("embedding", config.embedding, {{"mean", Pooling::kMean}, {"last", Pooling::kLast}},
                "Also writes an embedding of each document, normalised to length 1: the output of the last norm, "
                "averaged over its tokens (mean) or of its last token (last).");
  schema.boolean("overwrite", config.overwrite, "Allows an output to replace a file that carillon did not write.");
  declare_rope(schema, config.rope);
  declare_parallel(schema, config.parallel);
  declare_runtime(schema, config.runtime);
}

std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.17g}", value) : "null"; }

// loss[i] belongs to token i + 1.
std::string record_of(const ScoreDocument& document, const std::vector<double>& loss,
                      const std::vector<double>* embedding) {
  std::string line =
      fmt::format("{{\"id\":{},\"tokens\":{},\"logprobs\":[null", document.id.dump(), document.tokens.size());
  double sum = 0;
  for (const double value : loss) {
    line += ',';
    line += number(-value);
    sum += value;
  }
  line += fmt::format("],\"loss\":{}", loss.empty() ? "null" : number(sum / static_cast<double>(loss.size())));
  if (embedding != nullptr) {
    std::vector<std::string> numbers;
    for (const double value : *embedding) numbers.push_back(number(value));
    line += fmt::format(",\"embedding\":[{}]", fmt::join(numbers, ","));
  }
  return line + "}\n";
}

// Counts the documents whose log-probabilities are not all numbers; the output has null in their place.
struct NotFinite {
  int64_t documents = 0;
  Json first;  // its id
  void add(const ScoreDocument& document, const std::vector<double>& loss) {
    if (std::all_of(loss.begin(), loss.end(), [](double value) { return std::isfinite(value); })) return;
    if (documents++ == 0) first = document.id;
  }
};

// A few documents at a time, because a record needs both results.
void score_and_embed(Scorer& scorer, const std::vector<ScoreDocument>& documents, Pooling pooling, OutputFile* output,
                     NotFinite& not_finite) {
  constexpr size_t kAtOnce = 64;
  for (size_t begin = 0; begin < documents.size(); begin += kAtOnce) {
    std::vector<ScoreDocument> some;
    std::vector<std::vector<int32_t>> tokens;
    for (size_t i = begin; i < std::min(begin + kAtOnce, documents.size()); ++i) {
      some.push_back(documents[i]);
      tokens.push_back(documents[i].tokens);
    }
    std::vector<std::vector<double>> embeddings;
    EmbeddingOptions options;
    options.pooling = pooling;
    Embedder(scorer).embed(tokens, options,
                           [&](size_t, const std::vector<double>& embedding) { embeddings.push_back(embedding); });
    scorer.score(some, [&](size_t index, const TokenScores& scores) {
      not_finite.add(some[index], scores.loss);
      output->write(record_of(some[index], scores.loss, &embeddings[index]));
    });
  }
}

}  // namespace

std::string help_score() {
  ScoreConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_score(Program& program, const CommandLine& line) {
  ScoreConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& file : line.files)
    fail(ExitCode::kUsage, "score takes key=value arguments only, {}, write input={}", file, file);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("score");

  Session session(program.make_world(), config.parallel, config.runtime, program.notice());
  session.open_model(config.model, config.rope.settings, config.adapter.value_or(""));
  const OpenedModel& model = session.model();
  DataFiles files;
  agree(session.world(), [&] {
    files = find_data_files({config.input});
    // A mistyped name is reported even if no row needs what it names.
    std::error_code error;
    if (config.tokenizer && !std::filesystem::exists(*config.tokenizer, error))
      fail(ExitCode::kMissingInput, "there is no such tokenizer, {}, correct the path", *config.tokenizer);
    if (config.chat_template) (void)ChatTemplate::open(config.chat_template, nullptr);
  });
  for (const std::string& text : files.notices) program.say(text);
  require_same_text(session.world(), "the files of " + config.input, fmt::format("{}", fmt::join(files.paths, "\n")));
  require_same_files(session.world(), files.paths);
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;
  std::vector<ScoreDocument> documents;
  agree(session.world(), [&] {
    const Activity activity("reading data");
    DocumentReaderOptions options;
    options.vocabulary = model.config.vocab_size;
    options.between_batches = [] { throw_if_stop_requested("reading data"); };
    // Opened only for text: token ids can be scored by models without a tokenizer.
    options.open_tools = [&] {
      tokenizer = config.tokenizer ? Tokenizer::open(*config.tokenizer) : model.source->tokenizer();
      if (!tokenizer)
        fail(ExitCode::kUsage, "{} has text, but {} has no tokenizer, score, add tokenizer=PATH", config.input,
             model.source->path());
      chat = ChatTemplate::open(config.chat_template, tokenizer.get());
      return TextTools{tokenizer.get(), chat.get()};
    };
    documents = read_score_documents(files.paths, options);
  });
  require_same_text(session.world(), "the tokenizer or chat template for " + config.input,
                    tokenizer ? fmt::format("{:016x} {:016x}", tokenizer->hash(), chat->hash()) : "none");
  std::unique_ptr<OutputFile> output;
  agree(session.world(), [&] {
    if (!session.main_rank()) return;
    std::vector<std::string> inputs(files.paths);
    inputs.insert(inputs.end(), {config.model, config.adapter.value_or(""), config.tokenizer.value_or(""),
                                 config.chat_template.value_or("")});
    check_output(config.output, inputs, OutputKind::kScores, config.overwrite);
    output = std::make_unique<OutputFile>(config.output);
  });

  size_t longest = 1;
  for (const ScoreDocument& document : documents) longest = std::max(longest, document.tokens.size());
  session.start_device();
  session.make_grid();
  Scorer scorer(session.backend(), session.grid(), model.config, config.runtime.dtype, config.parallel.layout,
                static_cast<int64_t>(longest));
  session.load_weights(scorer.network().parameters());
  const Activity activity("scoring");
  NotFinite not_finite;
  if (!config.embedding)
    scorer.score(documents, [&](size_t index, const TokenScores& scores) {
      not_finite.add(documents[index], scores.loss);
      output->write(record_of(documents[index], scores.loss, nullptr));
    });
  else
    score_and_embed(scorer, documents, *config.embedding, output.get(), not_finite);
  agree(session.world(), [&] {
    if (output) output->commit();
  });
  if (not_finite.documents > 0)
    program.warning(fmt::format(
        "{} of {} documents have log-probabilities that are not finite and are null (the first is id {}), {}, try "
        "runtime.dtype=float64 or an earlier checkpoint: some values exceed the range of {}",
        not_finite.documents, documents.size(), not_finite.first.dump(-1, ' ', false, Json::error_handler_t::replace),
        printable(config.output), name_of(config.runtime.dtype)));
  return ExitCode::kDone;
}

}  // namespace carillon
