// The keys of `model` and `rope`. They are passed on as JSON under Hugging Face's names; type and range are checked
// here.
#include <functional>

#include "launch/config/run_config.h"
#include "launch/config/values.h"
#include "model/families/family.h"

namespace carillon {
namespace {

// Declares keys whose values are stored in a JSON object if given; `~` is stored as null.
class JsonKeys {
 public:
  JsonKeys(Schema& schema, std::string section, Json& target)
      : schema_(schema), section_(std::move(section)), target_(target) {}

  Key& integer(const std::string& name, std::string help) {
    return key(name, "integer", std::move(help),
               [](const Key& key, const YamlNode& node) { return Json(detail::read_integer(key, node)); });
  }
  Key& number(const std::string& name, std::string help) {
    return key(name, "number", std::move(help),
               [](const Key& key, const YamlNode& node) { return Json(detail::read_number(key, node)); });
  }
  Key& word(const std::string& name, const std::vector<std::string>& words, std::string help) {
    std::string type;
    for (const std::string& word : words) type += (type.empty() ? "" : " | ") + word;
    return key(name, type, std::move(help), [words](const Key& key, const YamlNode& node) {
      return detail::word_json(detail::read_word(key, node, words));
    });
  }
  Key& boolean(const std::string& name, std::string help) { return word(name, {"true", "false"}, std::move(help)); }
  Key& list(const std::string& name, std::string help) {
    return key(name, "list", std::move(help), [](const Key& key, const YamlNode& node) {
      if (node.kind != YamlNode::Kind::kSequence) key.refuse(node, "a list, one entry per layer");
      return detail::free_json(node);
    });
  }
  // A mapping with keys of this section again, for a part of what the section applies to.
  Key& mapping(const std::string& name, std::string help) {
    return key(name, "mapping", std::move(help),
               [this_schema = &schema_, section = section_](const Key& key, const YamlNode& node) {
                 if (node.kind != YamlNode::Kind::kMapping) key.refuse(node, "a mapping");
                 for (const YamlNode& inner : node.keys)
                   if (this_schema->find(section + "." + inner.text) == nullptr)
                     fail(ExitCode::kUsage, "unknown key '{}' in {}, {}, use a key of {}", inner.text, key.name,
                          inner.where, section);
                 return detail::free_json(node);
               });
  }
  Key& numbers(const std::string& name, std::string help) {
    return key(name, "list of numbers", std::move(help), [](const Key& key, const YamlNode& node) {
      if (node.kind != YamlNode::Kind::kSequence) key.refuse(node, "a list of numbers");
      Json list = Json::array();
      for (const YamlNode& item : node.items) list.push_back(detail::read_number(key, item));
      return list;
    });
  }

 private:
  Key& key(const std::string& name, std::string type, std::string help,
           std::function<Json(const Key&, const YamlNode&)> read) {
    const std::string full_name = section_ + "." + name;
    // The closure looks up its own key when it is called; it cannot capture the key before it exists.
    const auto set = [this_schema = &schema_, full_name, name, &target = target_, read](const YamlNode& node) {
      target[name] = node.kind == YamlNode::Kind::kNull ? Json() : read(*this_schema->find(full_name), node);
    };
    const auto get = [name, &target = target_]() -> std::optional<Json> {
      return target.contains(name) ? std::optional(target[name]) : std::nullopt;
    };
    return schema_.custom(full_name, std::move(type), std::move(help), set, get);
  }

  Schema& schema_;
  std::string section_;
  Json& target_;
};

}  // namespace

void declare_model(Schema& schema, ModelSection& model) {
  schema.section("model", "A base model, or a geometry under Hugging Face's names with random initial weights.");
  schema
      .text("model.base", model.base,
            "Hugging Face folder, model file (`carillon import`), checkpoint, or a run's folder, which stands for its "
            "newest checkpoint.")
      .aliases({"model_name_or_path", "pretrained", "base_model", "model_path", "init_from", "pretrained_model"});
  JsonKeys keys(schema, "model", model.geometry);
  const auto size = [&](const char* name, const char* help) -> Key& {
    return keys.integer(name, help).at_least(1).must_not_change().default_is("the base model's");
  };
  std::vector<std::string> architectures;
  for (const Family& family : families()) architectures.push_back(family.model_type);
  keys.word("architecture", architectures, "Hugging Face's model_type. tests/golden/FAMILIES.md describes each family.")
      .must_not_change()
      .default_is("llama")
      .aliases({"model_type", "arch"});
  size("vocab_size", "Size of the vocabulary. Need not be divisible by parallel.tensor.")
      .aliases({"n_vocab", "padded_vocab_size"});
  size("hidden_size", "Channels of the residual stream.").aliases({"d_model", "n_embd", "dim", "embed_dim", "n_embed"});
  size("intermediate_size", "Inner width of the gated MLP.")
      .aliases({"ffn_dim", "ffn_hidden_size", "d_ff", "hidden_dim"});
  size("num_hidden_layers", "Number of blocks.").aliases({"n_layer", "n_layers", "num_layers", "depth"});
  size("num_attention_heads", "Number of query heads; must be divisible by parallel.tensor.")
      .aliases({"n_head", "n_heads", "num_heads"});
  size("num_key_value_heads", "Number of key/value heads; must divide parallel.tensor or be divisible by it.")
      .default_is("num_attention_heads")
      .aliases({"n_kv_heads", "n_kv_head", "num_kv_heads", "num_query_groups"});
  size("head_dim", "Channels per head.")
      .default_is("hidden_size / num_attention_heads")
      .aliases({"head_size", "kv_channels"});
  keys.number("rms_norm_eps", "Epsilon added to the mean square in norms.")
      .above(0)
      .must_not_change()
      .default_is("1e-6")
      .aliases({"norm_eps", "layer_norm_eps", "norm_epsilon"});
  keys.boolean("tie_word_embeddings", "Use one matrix for the embedding and the output.")
      .must_not_change()
      .default_is("false")
      .aliases({"tie_weights", "tied_embeddings", "weight_tying"});
  size("max_position_embeddings", "Length the model was made for; the default original length of rope settings.")
      .default_is("2048")
      .aliases({"n_ctx", "n_positions", "context_size"});
  keys.number("initializer_range", "Standard deviation of the initial weights.")
      .at_least(0)
      .must_not_change()
      .default_is("0.02")
      .aliases({"init_std", "initializer_std", "init_method_std"});
  size("sliding_window", "Number of tokens, itself included, that a token sees in a windowed layer.")
      .default_is("not set");
  keys.list("layer_types", "For each layer, full_attention or sliding_attention.")
      .must_not_change()
      .default_is("the family's pattern");
  keys.boolean("use_sliding_window", "qwen2, qwen3, smollm3: whether any layers use a sliding window.")
      .must_not_change()
      .default_is("the family's");
  keys.integer("max_window_layers", "qwen2, qwen3: first layer that uses the sliding window.")
      .at_least(0)
      .must_not_change()
      .default_is("28");
  keys.list("no_rope_layers", "For each layer, 1 to rotate queries and keys, 0 not to.")
      .must_not_change()
      .default_is("all rotate");
  keys.boolean("attention_bias", "Biases in the attention projections.").must_not_change().default_is("the family's");
  keys.boolean("mlp_bias", "Biases in the MLP projections.").must_not_change().default_is("false");
  keys.boolean("attention_sinks", "llama: a learned logit per head in the softmax's denominator.")
      .must_not_change()
      .default_is("false");
  const auto multiplier = [&](const char* name, const char* help, const char* otherwise) {
    keys.number(name, help).above(0).must_not_change().default_is(otherwise);
  };
  multiplier("query_pre_attn_scalar", "gemma3_text: attention scores are divided by its square root.", "256");
  multiplier("final_logit_softcapping", "gemma3_text: logits = cap · tanh(logits / cap).", "not set");
  multiplier("embedding_multiplier", "granite: factor on the embedding.", "1");
  multiplier("residual_multiplier", "granite: factor on the outputs of attention and MLP.", "1");
  multiplier("attention_multiplier", "granite: scale of the attention scores, in place of 1/sqrt(head_dim).", "1");
  multiplier("logits_scaling", "granite: divisor of the logits.", "1");
  keys.integer("eos_token_id",
               "Token added at the end of each document when training from text. Default: that of data.tokenizer.")
      .at_least(0)
      .default_is("not set");
}

std::string ModelSection::config_json() const {
  Json config = geometry;
  config["model_type"] = geometry.value("architecture", "llama");
  config.erase("architecture");
  // Defaults for what a config.json contains and the configuration leaves out. They are not Hugging Face's class
  // defaults, which differ between the architectures.
  const auto otherwise = [&](const char* name, Json value) {
    if (!config.contains(name)) config[name] = std::move(value);
  };
  if (config.contains("num_attention_heads")) otherwise("num_key_value_heads", config["num_attention_heads"]);
  otherwise("rms_norm_eps", 1e-6);
  otherwise("tie_word_embeddings", false);
  otherwise("max_position_embeddings", 2048);
  otherwise("initializer_range", 0.02);
  return config.dump(2);
}

void declare_rope(Schema& schema, RopeSection& rope) {
  schema.section("rope",
                 "Rotary position embedding. The keys are merged over the model's own. Another type discards the keys "
                 "of the old one, except base, resonance, cope, original_max_position_embeddings and length.");
  JsonKeys keys(schema, "rope", rope.settings);
  const char* const own = "the model's";
  keys.word("type",
            {"none", "default", "linear", "ntk", "dynamic", "ntk_by_parts", "yarn", "llama3", "longrope",
             "proportional", "distributional", "clex", "resonance_yarn"},
            "How frequencies are scaled beyond the trained length. resonance_yarn is yarn with resonance: true.")
      .default_is(own)
      .aliases({"rope_type", "rope_scaling_type", "rope_scaling"});
  keys.boolean("resonance",
               "Rounds each wavelength to whole tokens, so that distant positions repeat features seen in training "
               "(Wang et al., 2024). Applies on top of any type, at no cost.")
      .default_is(own)
      .aliases({"resonance_rope", "use_resonance"});
  keys.integer("cope",
               "Number of slowest pairs whose frequencies are damped by half a cosine, the last one to zero (CoPE, "
               "2602.05258, which uses 20 of 64). Applies on top of any type. `carillon rope` marks the pairs whose "
               "wavelengths exceed the trained length.")
      .at_least(0)
      .default_is(own)
      .aliases({"use_cope", "clip_low_n", "cope_pairs"});
  keys.number("base", "Base θ of the frequencies.")
      .above(0)
      .default_is(own)
      .aliases({"rope_theta", "rotary_base", "rope_base"});
  keys.number("factor", "Target length divided by the original length.")
      .above(0)
      .default_is(own)
      .aliases({"scaling_factor", "scale", "rope_factor", "yarn_factor"});
  keys.integer("original_max_position_embeddings", "Length the model was trained at.")
      .at_least(1)
      .default_is("the model's, else its max_position_embeddings")
      .aliases({"original_context", "original_length", "yarn_original_max_position_embeddings"});
  keys.number("beta_fast",
              "yarn, ntk_by_parts: pairs that make more turns than this within the original length are not changed.")
      .above(0)
      .default_is("32");
  keys.number("beta_slow", "yarn, ntk_by_parts: pairs that make fewer turns than this are fully interpolated.")
      .above(0)
      .default_is("1");
  keys.number("attention_factor", "Factor on cosines and sines. null: the method's own.")
      .above(0)
      .default_is("the method's own")
      .aliases({"attn_factor"});
  keys.number("low_freq_factor", "llama3's key of that name.").above(0).default_is(own);
  keys.number("high_freq_factor", "llama3's key of that name.").above(0).default_is(own);
  keys.numbers("short_factor", "longrope: one divisor per pair, used up to the original length.")
      .above(0)
      .default_is(own);
  keys.numbers("long_factor", "longrope: one divisor per pair, used beyond the original length.")
      .above(0)
      .default_is(own);
  keys.boolean("mixed_windows",
               "longrope: each document of a packed sequence is rotated with the list for its own length (LongRoPE2, "
               "2502.20082). false: all are rotated with the list for sequence_length.")
      .default_is("false");
  keys.integer("param_factor",
               "clex (2310.16450): hidden width of the learned function, as a multiple of twice the number of pairs.")
      .at_least(1)
      .at_most(1024)
      .default_is("1");
  keys.number("time_step", "clex: step by which its equation is integrated, from a stretch of 1 to factor.")
      .above(0)
      .at_most(1)
      .default_is("0.01")
      .aliases({"time_dt"});
  keys.word("activation", {"tanh", "silu"}, "clex: activation between its two matrices.").default_is("tanh");
  keys.boolean("truncate", "yarn: round the ends of the ramp to whole pairs.").default_is("true");
  keys.word("yarn_blend", {"frequency", "wavelength"}, "yarn: the quantity that the ramp interpolates.")
      .default_is("frequency");
  keys.number("mscale", "yarn: m of DeepSeek's attention temperature g(m) = 0.1 m ln(factor) + 1.").default_is(own);
  keys.number("mscale_all_dim", "yarn: divides it: cosines and sines are multiplied by g(mscale) / g(mscale_all_dim).")
      .default_is(own);
  keys.number("disturbance_threshold",
              "distributional (2410.01490): a pair is interpolated if that disturbs the distribution of its angles "
              "less, by more than this threshold, than leaving it unchanged. `carillon rope` prints both values.")
      .default_is("0");
  keys.number("partial_rotary_factor", "Fraction of a head that is rotated.").above(0).at_most(1).default_is("1");
  keys.number("alpha", "dynamic, Hunyuan: the base becomes base · alpha^(d/(d-2)) at every length.")
      .above(0)
      .default_is(own);
  keys.number("llama_4_scaling_beta",
              "Multiplies queries by 1 + beta · ln(1 + floor(position / original length)), as in Ministral 3.")
      .at_least(0)
      .default_is(own);
  keys.mapping("sliding_attention", "The same keys for layers with a sliding window.")
      .default_is("rope's; in some families their own");
  keys.integer("length",
               "Fixes the length that dynamic, longrope and clex depend on, which is otherwise that of the sequence.")
      .at_least(1)
      .default_is("the sequence's");
}

}  // namespace carillon
