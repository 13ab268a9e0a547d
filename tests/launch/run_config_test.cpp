// The configuration of a run: every user error is reported with its place and a hint, and a written configuration reads
// back unchanged.
#include "launch/config/run_config.h"

#include <filesystem>

#include "launch/evaluate/sweep_config.h"

#include "tests/launch/near_error.h"
#include "tests/support/temporary_folder.h"

namespace carillon {
namespace {

using testing::expect_error;

const char* const kTiny = R"(
model:
  vocab_size: 22
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: 2
  num_attention_heads: 4
rope: {type: yarn, resonance: true, factor: 4}
data:
  train: [{path: train.jsonl}]
  sequence_length: 4k
train: {max_steps: 12}
output: run
)";

class RunConfigTest : public ::testing::Test {
 protected:
  RunConfig load(const std::vector<std::string>& overrides, const std::string& text = kTiny) {
    path_ = folder_.write("c.yaml", text);
    return load_run_config(path_, overrides);
  }
  void refuse(const std::vector<std::string>& words, const std::vector<std::string>& overrides,
              const std::string& text = kTiny) {
    expect_error(ExitCode::kUsage, words, [&] { load(overrides, text); });
  }
  testing::TemporaryFolder folder_;
  std::string path_;
};

TEST_F(RunConfigTest, ValuesAndDefaults) {
  const RunConfig config = load({"train.learning_rate=3e-4", "parallel.context=2", "data.packing=split"});
  EXPECT_EQ(config.data.sequence_length, 4096);
  EXPECT_EQ(config.data.train[0].path, "train.jsonl");
  EXPECT_EQ(config.train.learning_rate, 3e-4);
  EXPECT_EQ(config.train.max_steps, 12);
  EXPECT_EQ(config.train.seed, 42);
  EXPECT_EQ(config.parallel.context, 2);
  EXPECT_EQ(config.parallel.data, std::nullopt);
  EXPECT_EQ(config.data.packing, PackingMode::kSplit);
  EXPECT_EQ(config.runtime.dtype, DType::kBFloat16);
  EXPECT_EQ(config.checkpoint.every, 1800);
  EXPECT_EQ(config.rope.settings.dump(), R"({"type":"yarn","resonance":true,"factor":4.0})");
  const Json model = Json::parse(config.model.config_json());
  EXPECT_EQ(model["model_type"], "llama");
  EXPECT_EQ(model["num_key_value_heads"], 4);
}

TEST_F(RunConfigTest, OverridesTakeNestedListsSectionsAndNull) {
  const RunConfig config =
      load({"data.train=[{path: book.txt}, {path: 'a b.jsonl'}]", "train={seed: 7, warmup_steps: 2}",
            "train.max_grad_norm=null", "checkpoint.every=~", "parallel.data=auto", "rope.long_factor=[1, 2.5]",
            "rope.attention_factor=null", "checkpoint.keep=1k"});
  ASSERT_EQ(config.data.train.size(), 2u);
  EXPECT_EQ(config.data.train[1].path, "a b.jsonl");
  EXPECT_EQ(config.train.seed, 7);
  EXPECT_EQ(config.train.max_steps, 12);  // from the file: overriding a section changes only the keys that it names
  EXPECT_EQ(config.train.adamw.max_grad_norm, std::nullopt);
  EXPECT_EQ(config.checkpoint.every, std::nullopt);
  EXPECT_EQ(config.checkpoint.keep, 1024);
  EXPECT_EQ(config.rope.settings["long_factor"], Json::parse("[1.0, 2.5]"));
  EXPECT_TRUE(config.rope.settings["attention_factor"].is_null());
}

TEST_F(RunConfigTest, UnknownKeysNameTheNearest) {
  refuse({"unknown key 'train.learning_rat'", "c.yaml:1:9", "did you mean train.learning_rate?"}, {},
         "train: {learning_rat: 1}\n");
  refuse({"'trian'", "c.yaml:1:1", "train"}, {}, "trian: {}\n");
  refuse({"'learning_rate'", "here it is called train.learning_rate"}, {"learning_rate=1"});
  refuse({"here it is called parallel.context"}, {"context_parallel_size=2"});
  refuse({"here it is called data.sequence_length"}, {"max_seq_len=2"});
  refuse({"here it is called train.recompute"}, {"gradient-checkpointing=true"});
  refuse({"here it is called train.recompute"}, {"train.gradient_checkpointing=true"});
  refuse({"unknown key 'pth' in data.train", "did you mean path?"}, {"data.train=[{pth: x}]"});
  refuse({"unknown key 'file' in data.train", "did you mean path?"}, {"data.train=[{file: x}]"});
  refuse({"unknown key 'ratio' in data.train", "did you mean weight?"}, {"data.train=[{path: x, ratio: 1}]"});
}

TEST_F(RunConfigTest, WrongValuesNameKeyPlaceAndWhatIsTaken) {
  refuse({"train.max_steps cannot be 'many'", "c.yaml:2:20", "integer ≥ 1"}, {}, "\ntrain: {max_steps: many}\n");
  refuse({"train.max_steps cannot be '0'"}, {"train.max_steps=0"});
  refuse({"train.max_steps cannot be '1.5'"}, {"train.max_steps=1.5"});
  refuse({"train.max_steps cannot be a list", "argument 'train.max_steps=[1]', it takes"}, {"train.max_steps=[1]"});
  refuse({"train.seed cannot be null"}, {"train.seed="});
  refuse({"train.adam_beta1 cannot be '1'", "< 1"}, {"train.adam_beta1=1"});
  refuse({"data.shuffle cannot be 'yes'", "true | false"}, {"data.shuffle=yes"});
  refuse({"data.shuffle cannot be the text \"true\""}, {"data.shuffle='true'"});
  refuse({"runtime.dtype cannot be 'float36'", "nearest is float32"}, {"runtime.dtype=float36"});
  refuse({"checkpoint.every cannot be '30'", "30m"}, {"checkpoint.every=30"});
  refuse({"rope.type", "nearest is yarn"}, {"rope.type=yam"});
  refuse({"data.train cannot be 'book.txt'", "[{path: train.jsonl}]"}, {"data.train=book.txt"});
  refuse({"train is a section"}, {"train=3"});
  refuse({"neither a file nor KEY=VALUE"}, {"resonance"});
  refuse({"dotted key"}, {}, "train.seed: 1\n");
}

TEST_F(RunConfigTest, FormerWordsAreReadAndNotShown) {
  EXPECT_EQ(load({"runtime.attention=own"}).runtime.attention, "native");
  refuse({"runtime.attention", "auto | native | cudnn;"}, {"runtime.attention=flash"});
}

TEST_F(RunConfigTest, WhatNoSingleKeyCanKnow) {
  refuse({"model.base and model.vocab_size are both given"}, {"model.base=smol.h5"});
  refuse({"train.max_steps and train.epochs"}, {"train.epochs=1"});
  refuse({"train.warmup_steps and train.warmup_ratio"}, {"train.warmup_steps=1", "train.warmup_ratio=0.1"});
  EXPECT_EQ(load({"train.max_steps=null", "train.epochs=2"}).train.epochs, 2);
  EXPECT_EQ(load({"train.warmup_steps=1", "train.warmup_ratio=null"}).train.warmup_steps, 1);
  refuse({"model.vocab_size is missing", "c.yaml"}, {}, "train: {max_steps: 1}\n");
  refuse({"data.train is missing"}, {}, "model: {base: x}\n");
  refuse({"train.max_steps is missing"}, {},
         "model: {base: x}\ndata: {train: [{path: a}], sequence_length: 8}\noutput: o\n");
  refuse({"train.mlp_tile", "recompute none keeps", "argument"}, {"train.recompute=none", "train.mlp_tile=8k"});
  refuse({"train.offload", "recompute is none"}, {"train.recompute=none", "train.offload=all"});
  EXPECT_EQ(load({"train.recompute=none", "train.offload=optimizer"}).train.offload, Offload::kOptimizer);
  EXPECT_EQ(load({"train.mlp_tile=8k"}).train.mlp_tile, 8192);
  EXPECT_EQ(load({}).train.mlp_tile, std::nullopt);
  refuse({"here it is called train.offload"}, {"train.cpu_offload=true"});
  refuse({"output is missing"}, {},
         "model: {base: x}\ndata: {train: [{path: a}], sequence_length: 8}\ntrain: {max_steps: 1}\n");
  expect_error(ExitCode::kMissingInput, {"none.yaml"}, [] { load_run_config("none.yaml", {}); });
}

TEST_F(RunConfigTest, TheResolvedConfigurationReadsBack) {
  const RunConfig config =
      load({"train.max_grad_norm=null", "checkpoint.every_steps=null", "train.learning_rate=0.1", "output='1e5'",
            "data.validation=[{path: \"a: 'b' \\\"c\\\" #d\"}]", "rope.attention_factor=null", "checkpoint.every=1h30m",
            "data.packing=false", "data.tokenizer=null.json"});
  const std::string text = resolved_yaml(config);
  const RunConfig again = load({}, text);
  EXPECT_EQ(resolved_yaml(again), text);
  EXPECT_EQ(to_json(again), to_json(config));
  EXPECT_EQ(again.train.adamw.max_grad_norm, std::nullopt);
  EXPECT_EQ(again.output, "1e5");
  EXPECT_EQ(again.data.validation[0].path, "a: 'b' \"c\" #d");
  EXPECT_EQ(to_json(config)["data"]["packing"], false);
  EXPECT_EQ(to_json(config)["train"]["max_grad_norm"], nullptr);
  EXPECT_FALSE(to_json(config)["train"].contains("epochs"));
}

TEST_F(RunConfigTest, ResumeAllowsWarnsAndRefuses) {
  const Json saved = to_json(load({}));
  EXPECT_TRUE(
      changes_since(saved, load({"train.max_steps=99", "parallel.context=2", "output=elsewhere"}), "m").empty());
  const std::vector<std::string> warnings = changes_since(saved, load({"train.seed=7"}), "m");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "train.seed: 42 -> 7");
  expect_error(ExitCode::kUsage, {"model.hidden_size: 32 -> 64", "manifest.json"},
               [&] { changes_since(saved, load({"model.hidden_size=64"}), "manifest.json"); });
}

TEST_F(RunConfigTest, ADefaultThatIsWrittenOutIsNoChangeOnResume) {
  const std::vector<std::string> defaults{"model.rms_norm_eps=0.000001",
                                          "model.attention_bias=false",
                                          "model.architecture=llama",
                                          "model.initializer_range=0.02",
                                          "rope.base=10000",
                                          "rope.cope=0"};
  const Json saved = to_json(load({})), written = to_json(load(defaults));
  EXPECT_TRUE(changes_since(saved, load(defaults), "m").empty());
  EXPECT_TRUE(changes_since(written, load({}), "m").empty());
  expect_error(ExitCode::kUsage, {"model.rms_norm_eps"},
               [&] { changes_since(written, load({"model.rms_norm_eps=1e-5"}), "m"); });
  EXPECT_EQ(changes_since(saved, load({"rope.base=20000"}), "m").size(), 1u);
  EXPECT_EQ(changes_since(saved, load({"rope.length=64"}), "m").size(), 1u);
}

TEST(Schema, EveryDefaultIsInItsOwnBoundsAndEveryKeyHasHelp) {
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  for (const Key& key : schema.keys()) {
    EXPECT_FALSE(key.help.empty()) << key.name;
    EXPECT_TRUE(schema.find(key.name) == &key);
    const std::optional<Json> value = key.get();
    if (!value || !value->is_number() || key.default_text.starts_with("required")) continue;
    const double number = value->get<double>();
    EXPECT_GE(number, key.minimum.value_or(number)) << key.name;
    EXPECT_LE(number, key.maximum.value_or(number)) << key.name;
  }
}

TEST(Configs, EveryOneThatShipsIsRead) {
  int read = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::string(CARILLON_SOURCE) + "/launch/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    if (entry.path().filename().string().starts_with("sweep"))
      EXPECT_NO_THROW(load_sweep_config(entry.path(), {})) << entry.path();
    else
      EXPECT_NO_THROW(load_run_config(entry.path(), {})) << entry.path();
    ++read;
  }
  EXPECT_GE(read, 10);
}

}  // namespace
}  // namespace carillon
