// carillon tokenize: converts text, conversations or JSON lines to a token file.
#include <unistd.h>

#include <filesystem>

#include "data/chat/chat_template.h"
#include "data/corpus/document_reader.h"
#include "data/corpus/token_file.h"
#include "data/files/output_check.h"
#include "data/formats/model_source.h"
#include "launch/commands/commands.h"
#include "launch/config/run_config.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"
#include "runtime/text.h"

namespace carillon {
namespace {

struct TokenizeConfig {
  std::optional<std::string> tokenizer;
  std::string output;
  bool end_of_document = true;
  std::optional<int64_t> vocab_size;
  bool overwrite = false;
  std::optional<std::string> chat_template;
  TrainOn train_on = TrainOn::kAssistant;
  int64_t show = 0;
};

void declare(Schema& schema, TokenizeConfig& config) {
  schema.section("", "What to write.");
  schema.text("tokenizer", config.tokenizer, "Folder, tokenizer.json or tokenizer.model; needed only for text.")
      .default_is("not set");
  schema.text("output", config.output, "The token file (.h5).").required();
  schema.boolean("end_of_document", config.end_of_document,
                 "Adds the tokenizer's end-of-document token after each text.");
  schema.integer("vocab_size", config.vocab_size, "Upper bound of the token ids.")
      .at_least(1)
      .default_is("the tokenizer's");
  schema.boolean("overwrite", config.overwrite, "Allows an output to replace a file that carillon did not write.");
  declare_chat(schema, "", config.chat_template, config.train_on);
  schema.integer("show", config.show, "Prints this many documents first, with their targets marked.").at_least(0);
}

// The tokenizer with which a run of this model.base reads text; null if it has none, which token ids do not need.
std::unique_ptr<Tokenizer> tokenizer_of_base(const std::string& base,
                                             const std::function<void(const std::string&)>& notice) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    std::error_code error;
    if (std::filesystem::exists(std::filesystem::path(base) / name, error)) return Tokenizer::open(base);
  }
  return ModelSource::open(resolve_model_path(base, notice))->tokenizer();
}

// Prints documents as text: what is trained in green on a terminal, otherwise between ⟦ and ⟧.
void show_documents(DocumentReader& reader, const Tokenizer& tokenizer, int64_t count) {
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  const char* const open = terminal ? "\033[1;32m" : "⟦";
  const char* const close = terminal ? "\033[0m" : "⟧";
  Document document;
  for (int64_t shown = 0; shown < count && reader.next(document); ++shown) {
    const std::span<const uint32_t> tokens(document.tokens);
    const auto trained = [&](size_t i) { return i > 0 && (document.weights.empty() || document.weights[i] > 0); };
    std::string text;
    size_t targets = 0;
    for (size_t from = 0, to; from < tokens.size(); from = to) {
      for (to = from + 1; to < tokens.size() && trained(to) == trained(from);) ++to;
      const std::string part = tokenizer.decode(tokens.subspan(from, to - from), false);
      text += trained(from) ? open + part + close : part;
      targets += trained(from) ? to - from : 0;
    }
    fmt::print("--- document {}: {} of {} tokens are targets\n{}\n", shown + 1, targets, tokens.size(), text);
  }
}

}  // namespace

std::string help_tokenize() {
  TokenizeConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_tokenize(Program& program, const CommandLine& line) {
  TokenizeConfig config;
  Schema schema;
  declare(schema, config);
  std::vector<std::string> entries;
  std::optional<std::string> run_tokenizer, run_base, run_chat_template;
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("tokenize");
  for (const std::string& file : line.files) {
    if (!file.ends_with(".yaml") && !file.ends_with(".yml")) {
      entries.push_back(file);
      continue;
    }
    const RunConfig run = load_run_config(file, {});
    for (const DataSource& source : run.data.train) entries.push_back(source.path);
    run_tokenizer = run.data.tokenizer;
    run_base = run.model.base;
    run_chat_template = run.data.chat_template;
    if (!schema.given("train_on")) config.train_on = run.data.train_on;
  }
  if (entries.empty())
    fail(ExitCode::kUsage,
         "tokenize takes files or a configuration, on the command line, carillon tokenize FILES… output=OUT.h5");
  if (!config.tokenizer) config.tokenizer = run_tokenizer;
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    const Activity activity("tokenizing");
    const DataFiles data = find_data_files(entries);
    const std::vector<std::string>& files = data.paths;
    for (const std::string& text : data.notices) program.say(text);
    std::unique_ptr<Tokenizer> tokenizer;
    DocumentReaderOptions options;
    options.between_batches = [] { throw_if_stop_requested("reading data"); };
    if (config.tokenizer)
      tokenizer = Tokenizer::open(*config.tokenizer);
    else if (run_base)
      tokenizer = tokenizer_of_base(*run_base, program.notice());
    if (tokenizer) {
      options.tokenizer = tokenizer.get();
      if (config.end_of_document) options.end_of_document = tokenizer->eos();
      if (config.end_of_document && !tokenizer->eos())
        program.warning("no end-of-document token is put after texts: none is named in " + tokenizer->end_search() +
                        ", beside " + tokenizer->path() +
                        ", name one in tokenizer_config.json or end_of_document=false");
    }
    options.vocabulary = config.vocab_size.value_or(tokenizer ? tokenizer->vocabulary() : int64_t{1} << 32);
    if (!config.chat_template) config.chat_template = run_chat_template;
    const auto chat = ChatTemplate::open(config.chat_template, tokenizer.get());
    options.chat = chat.get();
    options.train_on = config.train_on;
    if (config.show > 0) {
      if (!tokenizer) fail(ExitCode::kUsage, "show needs a tokenizer, on the command line, set tokenizer=PATH");
      DocumentReader reader(files, options);
      show_documents(reader, *tokenizer, config.show);
    }
    DocumentReader reader(files, options);
    std::vector<std::string> inputs(files);
    inputs.insert(inputs.end(), line.files.begin(), line.files.end());
    inputs.push_back(config.tokenizer.value_or(""));
    inputs.push_back(run_base.value_or(""));
    inputs.push_back(config.chat_template.value_or(""));
    check_output(config.output, inputs, OutputKind::kTokenFile, config.overwrite);
    const TokenFileCounts counts =
        write_token_file(config.output, reader, tokenizer.get(), [&](const std::string& text) { program.say(text); });
    fmt::print("{}: {} documents, {} tokens\n", printable(config.output), counts.documents, counts.tokens);
    if (reader.targets() + counts.documents < reader.tokens())
      fmt::print("{} of {} tokens are targets\n", reader.targets(), reader.tokens());
    if (reader.targets() == 0) program.warning(fmt::format("nothing in {} is trained", fmt::join(entries, ", ")));
  });
  return ExitCode::kDone;
}

}  // namespace carillon
