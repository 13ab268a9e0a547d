// The keys of `adapter`.
#include <algorithm>

#include "launch/config/run_config.h"
#include "launch/config/values.h"
#include "runtime/text.h"

namespace carillon {
namespace {

constexpr double kMostRank = 1 << 20;  // far more than any layer's width

std::vector<std::string> read_targets(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kScalar && node.text == "all-linear") return {};
  if (node.kind != YamlNode::Kind::kSequence || node.items.empty())
    fail(ExitCode::kUsage, "adapter.target_modules cannot be {}, {}, it takes all-linear or a list of {}",
         node.describe(), node.where, join(adapter_targets()));
  std::vector<std::string> targets;
  for (const YamlNode& item : node.items) {
    const auto& known = adapter_targets();
    if (item.text == "embed_tokens" || item.text == "lm_head")
      fail(ExitCode::kUsage, "{} cannot have an adapter, {}, use some of {}", item.text, item.where, join(known));
    if (std::find(known.begin(), known.end(), item.text) == known.end())
      fail(ExitCode::kUsage, "adapter.target_modules has no {}, {}, did you mean {}? There are {}",
           printable(item.text), item.where, nearest(item.text, known), join(known));
    if (std::find(targets.begin(), targets.end(), item.text) != targets.end())
      fail(ExitCode::kUsage, "{} is given twice in adapter.target_modules, {}, remove one", item.text, item.where);
    targets.push_back(item.text);
  }
  return targets;
}

}  // namespace

AdapterSettings AdapterSection::settings() const {
  AdapterSettings result;
  result.rank = rank.value_or(result.rank);
  result.alpha = alpha.value_or(result.alpha);
  result.dropout = dropout.value_or(result.dropout);
  result.rslora = rslora.value_or(result.rslora);
  result.targets = target_modules.value_or(result.targets);
  return result;
}

void declare_adapter(Schema& schema, AdapterSection& adapter) {
  schema.section("adapter",
                 "Trains a low-rank adapter (LoRA) and leaves the weights frozen: y = W·x + s·B(A·x). model.base names "
                 "the base model. train.learning_rate is the adapter's.");
  schema
      .choice("adapter.type", adapter.lora, {{"none", false}, {"lora", true}},
              "lora: the base has no gradients, moments or master weights, and a step takes about two thirds of the "
              "time. Checkpoints contain only the adapter.")
      .default_is("none")
      .must_not_change()
      .aliases({"peft_type", "use_peft", "use_lora", "lora", "finetuning_type"});
  schema.integer("adapter.rank", adapter.rank, "Number of rows of A and columns of B.")
      .at_least(1)
      .at_most(kMostRank)
      .default_is("16")
      .must_not_change()
      .aliases({"lora_r", "lora_rank", "lora_dim"});
  schema.number("adapter.alpha", adapter.alpha, "s = alpha / rank, or alpha / √rank with rslora.")
      .above(0)
      .default_is("32")
      .must_not_change()
      .aliases({"lora_alpha"});
  schema
      .number("adapter.dropout", adapter.dropout,
              "Fraction of each adapter's inputs that is dropped in training; the same elements on every layout.")
      .at_least(0)
      .below(1)
      .default_is("0; of adapter.base its own")
      .aliases({"lora_dropout"});
  schema
      .custom(
          "adapter.target_modules", "all-linear | list",
          "Layers that get an adapter: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.",
          [&adapter](const YamlNode& node) {
            if (node.kind == YamlNode::Kind::kNull)
              adapter.target_modules.reset();
            else
              adapter.target_modules = read_targets(node);
          },
          [&adapter]() -> std::optional<Json> {
            if (!adapter.target_modules) return std::nullopt;
            return adapter.target_modules->empty() ? Json("all-linear") : Json(*adapter.target_modules);
          })
      .default_is("all-linear")
      .must_not_change()
      .aliases({"lora_target_modules", "lora_target", "lora_modules"});
  schema.boolean("adapter.rslora", adapter.rslora, "Scales by 1/√rank instead of 1/rank.")
      .default_is("false")
      .must_not_change()
      .aliases({"use_rslora"});
  schema
      .text("adapter.base", adapter.base,
            "An adapter to continue from: a PEFT folder or a run. Its own rank, alpha, rslora and layers are used.")
      .aliases({"adapter_name_or_path", "lora_path", "lora_model_dir"});
  schema
      .choice("adapter.base_quantization", adapter.base_quantization,
              {{"none", Quantization::kNone}, {"int8", Quantization::kInt8}, {"nf4", Quantization::kNf4}},
              "Stores the frozen linear layers, except embedding and head, in 8 or 4 bits during training (nf4 as in "
              "bitsandbytes, with quantised scales). Checkpoints, exports and other commands use the unquantised base.")
      .default_is("none")
      .aliases({"load_in_4bit", "load_in_8bit", "quantization", "bnb_4bit_quant_type"});
}

void declare_adapter_path(Schema& schema, std::optional<std::string>& adapter) {
  schema
      .text("adapter", adapter,
            "An adapter to apply to the model: a PEFT folder or a run that trained one. Given as `model`, an adapter "
            "loads its own base.")
      .aliases({"lora", "peft", "lora_path", "adapter_name_or_path"});
}

void check_adapter(const Schema& schema, const AdapterSection& adapter) {
  constexpr const char* kOwn[] = {"adapter.rank", "adapter.alpha", "adapter.target_modules", "adapter.rslora"};
  const auto given = [&](const char* key) { return schema.given(key); };
  if (!adapter.lora) {
    for (const char* key :
         {kOwn[0], kOwn[1], kOwn[2], kOwn[3], "adapter.dropout", "adapter.base", "adapter.base_quantization"})
      if (given(key))
        fail(ExitCode::kUsage, "{} is given and adapter.type is not, {}, add adapter.type: lora", key,
             schema.where(key));
    return;
  }
  if (!adapter.on() || !adapter.base) return;
  for (const char* key : kOwn)
    if (given(key))
      fail(ExitCode::kUsage, "{} and adapter.base are both given, {} and {}, remove one: an adapter has its own", key,
           schema.where(key), schema.where("adapter.base"));
}

}  // namespace carillon
