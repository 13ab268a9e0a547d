// The keys of `data:`.
#include "launch/config/run_config.h"
#include "runtime/text.h"

namespace carillon {

void declare_chat(Schema& schema, const std::string& prefix, std::optional<std::string>& chat_template,
                  TrainOn& train_on) {
  schema
      .text(prefix + "chat_template", chat_template,
            "A Jinja template for rows of messages: a file, or the built-in chatml or qwen3 (Qwen3's, with the "
            "assistant's turns "
            "marked).")
      .default_is("the tokenizer's");
  schema.choice(
      prefix + "train_on", train_on,
      {{"assistant", TrainOn::kAssistant}, {"last_assistant", TrainOn::kLastAssistant}, {"all", TrainOn::kAll}},
      "Which tokens of rows of messages are targets: the assistant's turns (of prompt and completion the "
      "completion), the last of them, or all tokens.");
}

namespace {

// Reads one entry of a list of sources. mixes: whether it may have weight and name.
DataSource read_source(const std::string& list, const YamlNode& item, bool mixes) {
  const bool mapping = item.kind == YamlNode::Kind::kMapping;
  for (const YamlNode& key : item.keys) {
    if (key.text == "path" || (mixes && (key.text == "weight" || key.text == "name"))) continue;
    fail(ExitCode::kUsage, "unknown key '{}' in {}, {}, did you mean {}?", printable(key.text), list, key.where,
         mixes ? nearest(key.text, {"path", "weight", "name"}) : "path");
  }
  const YamlNode* path = mapping ? item.find("path") : nullptr;
  if (path == nullptr || path->kind != YamlNode::Kind::kScalar || path->text.empty())
    fail(ExitCode::kUsage, "an entry of {} has no path, {}, write {{path: FILE}}", list, item.where);
  DataSource source{path->text, std::nullopt, std::nullopt};
  if (const YamlNode* weight = item.find("weight")) {
    Key key;
    key.name = list + ".weight";
    key.type = "number";
    key.above(0);
    source.weight = detail::read_number(key, *weight);
  }
  if (const YamlNode* name = item.find("name")) {
    Key key;
    key.name = list + ".name";
    key.type = "text";
    source.name = detail::read_text(key, *name);
  }
  return source;
}

}  // namespace

void declare_data(Schema& schema, DataSection& data) {
  schema.section("data", "What it learns from. Relative paths start at the working directory.");
  const auto sources = [&schema](const char* name, std::vector<DataSource>& target, bool mixes,
                                 const char* help) -> Key& {
    const std::string key_name = name;
    const auto set = [&target, key_name, mixes](const YamlNode& node) {
      if (node.kind != YamlNode::Kind::kSequence) {
        fail(ExitCode::kUsage, "{} cannot be {}, {}, it takes a list such as [{{path: train.jsonl}}]", key_name,
             node.describe(), node.where);
      }
      std::vector<DataSource> read;
      for (const YamlNode& item : node.items) read.push_back(read_source(key_name, item, mixes));
      target = std::move(read);
    };
    const auto get = [&target]() -> std::optional<Json> {
      if (target.empty()) return std::nullopt;
      Json list = Json::array();
      for (const DataSource& source : target) {
        list.push_back({{"path", source.path}});
        if (source.weight) list.back()["weight"] = *source.weight;
        if (source.name) list.back()["name"] = *source.name;
      }
      return list;
    };
    return schema.custom(key_name, mixes ? "list of {path: FILE, weight: W, name: N}" : "list of {path: FILE}", help,
                         set, get);
  };
  sources(
      "data.train", data.train, /*mixes=*/true,
      "Files, folders or patterns (`parts/*.jsonl.zst`) in the order they are read: .jsonl with `tokens` (and "
      "`loss_mask`: weights of the targets, or `labels`: -100 is none) or `text` or `messages` on each line, .txt "
      "(one document), both also .gz or .zst; .h5 (from `carillon tokenize`). With any `weight`, sequences are "
      "drawn from the entries in proportion to their weights (1 where none is given), each starting again when used "
      "up; `name` is what records and the log call an entry.")
      .default_is("required")
      .aliases({"dataset", "train_file", "data_path", "train_data"});
  sources("data.validation", data.validation, /*mixes=*/false,
          "The same, held out; evaluations read it when a task names no data.")
      .aliases({"val_data", "validation_file", "eval_data"});
  schema.text("data.tokenizer", data.tokenizer, "Folder or tokenizer.json; needed for text only.")
      .default_is("the base model's")
      .aliases({"tokenizer_path", "tokenizer_name"});
  declare_chat(schema, "data.", data.chat_template, data.train_on);
  schema
      .integer("data.sequence_length", data.sequence_length,
               "Tokens a sequence; at least 2·parallel.context. A longer document is cut into pieces of this length, "
               "none is dropped. Memory and the attention's share of the time grow with it.")
      .at_least(2)
      .at_most(kMostTokens)
      .default_is("required")
      .aliases({"max_seq_len", "max_seq_length", "seq_length", "seq_len", "block_size", "context_length", "max_length",
                "cutoff_len"});
  schema
      .choice(
          "data.packing", data.packing,
          {{"false", PackingMode::kNone},
           {"true", PackingMode::kWhole},
           {"best_fit", PackingMode::kBestFit},
           {"split", PackingMode::kSplit}},
          "Several documents in one sequence, none seeing another. false: one a sequence, padded. true: whole ones "
          "in file order. best_fit: whole ones, reordered within a window, less padding. split: end to end and cut, "
          "nothing padded.")
      .aliases({"sample_packing", "pack", "pack_sequences"});
  schema
      .choice("data.positions", data.positions,
              {{"consecutive", PositionKind::kConsecutive},
               {"pose", PositionKind::kPose},
               {"skipalign", PositionKind::kSkipAlign},
               {"random", PositionKind::kRandom}},
              "Positions with skips show a model the distances of long documents on short ones, at the cost of short "
              "ones. pose (2309.10400): the second part of each document is moved by a random number. skipalign "
              "(2405.03939): what follows a change between trained and untrained tokens is. random (2310.16450): "
              "each document's tokens stand at random places of rope.factor times its length; with rope.type clex of "
              "a stretch drawn for each step.")
      .aliases({"position_skipping", "pose", "skip_positions"});
  schema
      .integer("data.positions_length", data.positions_length,
               "pose and skipalign: positions are below this. The table of the rotation is as long.")
      .at_least(2)
      .at_most(kMostTokens)
      .default_is("rope.factor times the original length")
      .aliases({"target_length", "target_context", "skip_target"});
  schema
      .number("data.skip_probability", data.skip_probability,
              "skipalign: how likely a change between trained and untrained tokens is followed by a skip.")
      .above(0)
      .at_most(1)
      .default_is("0.5")
      .aliases({"skip_prob"});
  schema
      .boolean("data.shuffle", data.shuffle,
               "A new order of the packed sequences each epoch, the same on every layout. false: file order, wrapping "
               "at the end.")
      .aliases({"shuffle_data"});
}

}  // namespace carillon
