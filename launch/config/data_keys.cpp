// The keys of `data:`.
#include "launch/config/run_config.h"
#include "runtime/text.h"

namespace carillon {

void declare_chat(Schema& schema, const std::string& prefix, std::optional<std::string>& chat_template,
                  TrainOn& train_on) {
  schema
      .text(prefix + "chat_template", chat_template,
            "Jinja template for conversations: a file, or the built-in chatml or qwen3 (Qwen3's template with the "
            "assistant's turns marked).")
      .default_is("the tokenizer's");
  schema.choice(
      prefix + "train_on", train_on,
      {{"assistant", TrainOn::kAssistant}, {"last_assistant", TrainOn::kLastAssistant}, {"all", TrainOn::kAll}},
      "Which tokens of conversations are targets: the assistant's turns (for prompt and completion, the completion), "
      "only the last of them, or all tokens.");
}

namespace {

// The key of an entry that a foreign one stands for: a name from other programs, or a typing error.
std::string meant_by(const std::string& key, bool mixes) {
  for (const char* alias : {"file", "files", "filename", "file_name", "folder", "dataset", "data_files"})
    if (key == alias) return "path";
  if (!mixes) return "path";
  for (const char* alias : {"ratio", "proportion", "probability", "sampling_weight"})
    if (key == alias) return "weight";
  return nearest(key, {"path", "weight", "name"});
}

// Reads one entry of a list of sources. mixes: whether it may have weight and name.
DataSource read_source(const std::string& list, const YamlNode& item, bool mixes) {
  const bool mapping = item.kind == YamlNode::Kind::kMapping;
  for (const YamlNode& key : item.keys) {
    if (key.text == "path" || (mixes && (key.text == "weight" || key.text == "name"))) continue;
    fail(ExitCode::kUsage, "unknown key '{}' in {}, {}, did you mean {}?", printable(key.text), list, key.where,
         meant_by(key.text, mixes));
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
  schema.section("data", "Training data. Relative paths are resolved against the working directory.");
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
  sources("data.train", data.train, /*mixes=*/true,
          "Files, folders or patterns (`parts/*.jsonl.zst`), read in this order: .jsonl with `tokens` (and "
          "`loss_mask`, weights of the targets, or `labels`, where -100 is not a target), `text`, `messages` (or "
          "`conversations`), or `prompt` and `completion` on each line; .txt (one document); both also as .gz or .zst; "
          ".h5 (from `carillon tokenize`). If any entry has a "
          "`weight`, sequences are drawn from the entries in proportion to their weights (default 1), and an entry "
          "starts over when it is used up. `name` identifies an entry in metrics and log.")
      .default_is("required in training")
      .aliases({"dataset", "train_file", "data_path", "train_data"});
  sources("data.validation", data.validation, /*mixes=*/false,
          "Held-out data in the same formats; read by evaluation tasks that name no data.")
      .aliases({"val_data", "validation_file", "eval_data"});
  schema.text("data.tokenizer", data.tokenizer, "Folder or tokenizer.json; needed only for text.")
      .default_is("the base model's")
      .aliases({"tokenizer_path", "tokenizer_name"});
  declare_chat(schema, "data.", data.chat_template, data.train_on);
  schema
      .integer("data.sequence_length", data.sequence_length,
               "Tokens per sequence; at least 2·parallel.context. Longer documents are cut into pieces of this length; "
               "nothing is dropped. Memory and the share of time spent in attention grow with it.")
      .at_least(2)
      .at_most(kMostTokens)
      .default_is("required in training")
      .aliases({"max_seq_len", "max_seq_length", "seq_length", "seq_len", "block_size", "context_length", "max_length",
                "cutoff_len"});
  schema
      .choice("data.packing", data.packing,
              {{"false", PackingMode::kNone},
               {"true", PackingMode::kWhole},
               {"best_fit", PackingMode::kBestFit},
               {"split", PackingMode::kSplit}},
              "Puts several documents into one sequence; attention does not cross documents. false: one document per "
              "sequence, padded. true: whole documents in file order. best_fit: whole documents, reordered within a "
              "window for less padding. split: documents are concatenated and cut, without padding.")
      .aliases({"sample_packing", "pack", "pack_sequences"});
  schema
      .choice("data.positions", data.positions,
              {{"consecutive", PositionKind::kConsecutive},
               {"pose", PositionKind::kPose},
               {"skipalign", PositionKind::kSkipAlign},
               {"random", PositionKind::kRandom}},
              "Positions with skips train a model on short documents for the distances of long ones, at the cost of "
              "the short model's own distances. pose (2309.10400): shifts the second part of each document by a random "
              "distance. skipalign (2405.03939): shifts the tokens after a change between trained and untrained "
              "tokens. random (2310.16450): places each document's tokens at random positions within rope.factor times "
              "its length; with rope.type clex, within a stretch drawn for each step.")
      .aliases({"position_skipping", "pose", "skip_positions"});
  schema
      .integer("data.positions_length", data.positions_length,
               "pose and skipalign: upper bound of the positions. The rotation's table has this length.")
      .at_least(2)
      .at_most(kMostTokens)
      .default_is("rope.factor times the original length")
      .aliases({"target_length", "target_context", "skip_target"});
  schema
      .number("data.skip_probability", data.skip_probability,
              "skipalign: probability that a change between trained and untrained tokens is followed by a skip.")
      .above(0)
      .at_most(1)
      .default_is("0.5")
      .aliases({"skip_prob"});
  schema
      .boolean("data.shuffle", data.shuffle,
               "Shuffles the packed sequences anew in each epoch, in the same order on every layout. false: file "
               "order, starting over at the end.")
      .aliases({"shuffle_data"});
}

}  // namespace carillon
