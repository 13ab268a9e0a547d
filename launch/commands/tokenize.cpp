// carillon tokenize: text or JSON lines to a token file.
#include "data/corpus/document_reader.h"
#include "data/corpus/token_file.h"
#include "data/files/output_check.h"
#include "launch/commands/commands.h"
#include "launch/config/run_config.h"
#include "runtime/text.h"

namespace carillon {
namespace {

struct TokenizeConfig {
  std::optional<std::string> tokenizer;
  std::string output;
  bool end_of_document = true;
  std::optional<int64_t> vocab_size;
  bool overwrite = false;
};

void declare(Schema& schema, TokenizeConfig& config) {
  schema.section("", "What to write.");
  schema.text("tokenizer", config.tokenizer, "Folder, tokenizer.json or tokenizer.model; for text.")
      .default_is("not set");
  schema.text("output", config.output, "The token file (.h5).").required();
  schema.boolean("end_of_document", config.end_of_document, "Put the tokenizer's end-of-document token behind a text.");
  schema.integer("vocab_size", config.vocab_size, "Ids must be below it.").at_least(1).default_is("the tokenizer's");
  schema.boolean("overwrite", config.overwrite, "Whether an output that carillon did not write may be replaced.");
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
  std::vector<std::string> files;
  std::optional<std::string> run_tokenizer;
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("tokenize");
  for (const std::string& file : line.files) {
    if (!file.ends_with(".yaml") && !file.ends_with(".yml")) {
      files.push_back(file);
      continue;
    }
    const RunConfig run = load_run_config(file, {});
    for (const DataSource& source : run.data.train) files.push_back(source.path);
    run_tokenizer = run.data.tokenizer ? run.data.tokenizer : run.model.base;
  }
  if (files.empty())
    fail(ExitCode::kUsage,
         "tokenize takes files or a configuration, on the command line, carillon tokenize FILES… output=OUT.h5");
  if (!config.tokenizer) config.tokenizer = run_tokenizer;
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    std::unique_ptr<Tokenizer> tokenizer;
    DocumentReaderOptions options;
    if (config.tokenizer) {
      tokenizer = Tokenizer::open(*config.tokenizer);
      options.tokenizer = tokenizer.get();
      if (config.end_of_document) options.end_of_document = tokenizer->eos();
    }
    options.vocabulary = config.vocab_size.value_or(tokenizer ? tokenizer->vocabulary() : int64_t{1} << 32);
    DocumentReader reader(files, options);
    std::vector<std::string> inputs(files);
    inputs.insert(inputs.end(), line.files.begin(), line.files.end());
    inputs.push_back(config.tokenizer.value_or(""));
    check_output(config.output, inputs, OutputKind::kTokenFile, config.overwrite);
    const TokenFileCounts counts = write_token_file(config.output, reader, tokenizer.get());
    fmt::print("{}: {} documents, {} tokens\n", printable(config.output), counts.documents, counts.tokens);
  });
  return ExitCode::kDone;
}

}  // namespace carillon
