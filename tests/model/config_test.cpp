// config.json in all its common spellings, what is refused, and writing it back.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/rope.h"

namespace carillon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json llama() {
  return Json::parse(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "eos_token_id": [2, 3],
    "something_else": {"kept": true}})");
}
ModelConfig parse(const Json& json) { return parse_model_config(json.dump(), "config.json"); }
Json with(Json json, const char* key, const Json& value) {
  json[key] = value;
  return json;
}
Json family(const char* model_type, const char* class_name) {
  return with(with(llama(), "model_type", model_type), "architectures", Json::array({class_name}));
}
std::string message_of(const Json& json, ExitCode code = ExitCode::kBadInput) {
  try {
    parse_model_config(json.dump(), "config.json", code);
  } catch (const Error& error) {
    return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
  }
  return "accepted";
}

TEST(ModelConfig, Llama) {
  const ModelConfig config = parse(llama());
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope.base, 500000);
  EXPECT_EQ(config.rotary_pairs(), 8);
  const LayerSpec& plain = config.layers.at(0);
  EXPECT_FALSE(plain.attention.qkv_bias || plain.attention.o_bias || plain.mlp.bias || config.tie_word_embeddings);
  EXPECT_EQ(plain.attention.qk_norm, QkNorm::kNone);
  EXPECT_THAT(config.eos_token_id, ElementsAre(2, 3));
  const ModelConfig biased = parse(with(with(llama(), "attention_bias", true), "mlp_bias", true));
  EXPECT_TRUE(biased.layers[0].attention.qkv_bias && biased.layers[0].attention.o_bias && biased.layers[0].mlp.bias);
  EXPECT_EQ(config.parameter_count(), 2 * (2 * 64 + 64 * 64 * 2 + 2 * 32 * 64 + 3 * 128 * 64) + 64 + 2 * 100 * 64);
}

TEST(ModelConfig, TheOtherFamilies) {
  EXPECT_EQ(parse(with(family("mistral", "MistralForCausalLM"), "sliding_window", 32)).windows(),
            std::vector<int64_t>{32});
  EXPECT_EQ(parse(with(family("mistral", "MistralForCausalLM"), "sliding_window", nullptr)).windows(),
            std::vector<int64_t>{0});
  const ModelConfig qwen2 = parse(family("qwen2", "Qwen2ForCausalLM"));
  EXPECT_TRUE(qwen2.layers[0].attention.qkv_bias && !qwen2.layers[0].attention.o_bias);
  EXPECT_EQ(qwen2.windows(), std::vector<int64_t>{0});
  const ModelConfig qwen3 = parse(with(family("qwen3", "Qwen3ForCausalLM"), "head_dim", 32));
  EXPECT_EQ(qwen3.layers[0].attention.qk_norm, QkNorm::kPerHead);
  EXPECT_TRUE(!qwen3.layers[0].attention.qkv_bias && qwen3.head_dim == 32);
  EXPECT_EQ(parse(family("qwen3", "Qwen3ForCausalLM")).head_dim, 128);
}

TEST(ModelConfig, WindowsByLayer) {
  Json qwen = with(with(family("qwen2", "Qwen2ForCausalLM"), "sliding_window", 64), "use_sliding_window", true);
  EXPECT_EQ(parse(with(qwen, "max_window_layers", 0)).windows(), std::vector<int64_t>{64});
  EXPECT_EQ(parse(with(qwen, "max_window_layers", 2)).windows(), std::vector<int64_t>{0});
  const auto widths = [](const Json& json) {
    std::vector<int64_t> result;
    const ModelConfig config = parse(json);
    for (const LayerSpec& layer : config.layers) result.push_back(layer.attention.window);
    return result;
  };
  EXPECT_THAT(widths(with(qwen, "max_window_layers", 1)), ElementsAre(0, 64));
  const Json types = {"sliding_attention", "full_attention"};
  EXPECT_THAT(widths(with(qwen, "layer_types", types)), ElementsAre(64, 0));
  EXPECT_THAT(widths(with(with(llama(), "layer_types", types), "sliding_window", 7)), ElementsAre(7, 0));
  // null is not the same as absent: no window, whatever use_sliding_window says.
  EXPECT_THAT(widths(with(with(qwen, "sliding_window", nullptr), "max_window_layers", 0)), ElementsAre(0, 0));
  EXPECT_THAT(message_of(with(with(qwen, "use_sliding_window", false), "layer_types", types)),
              HasSubstr("layer 0 slides and there is no sliding_window"));
  EXPECT_THAT(message_of(with(qwen, "layer_types", Json{"full_attention"})), HasSubstr("layer_types has 1 entries"));
}

TEST(ModelConfig, RotationsByKindOfLayerAreObjects) {
  for (const char* kind : {"full_attention", "sliding_attention"})
    for (const char* value : {"5", "null", "[]", "\"yarn\""})
      for (const char* family : {"llama", "olmo3", "gemma3_text"}) {
        const std::string text = fmt::format(
            R"({{"model_type": "{}", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "sliding_window": 4, "rope_theta": 10.0,
                "rope_parameters": {{"{}": {}}}}})",
            family, kind, value);
        try {
          parse_model_config(text, "config.json", ExitCode::kBadInput);
          ADD_FAILURE() << text;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ExitCode::kBadInput);
          EXPECT_NE(std::string(error.what()).find(kind), std::string::npos) << error.what();
        }
      }
}

TEST(ModelConfig, RefusesByName) {
  EXPECT_THAT(message_of(family("mixtral", "MixtralForCausalLM")), HasSubstr("65: architecture 'mixtral'"));
  EXPECT_THAT(message_of(family("llama", "LlamaForSequenceClassification")),
              HasSubstr("LlamaForSequenceClassification"));
  EXPECT_THAT(message_of(with(llama(), "quantization_config", Json{{"bits", 4}})), HasSubstr("quantization_config"));
  EXPECT_THAT(message_of(with(llama(), "hidden_act", "gelu")), HasSubstr("hidden_act is \"gelu\""));
  EXPECT_THAT(message_of(with(llama(), "num_local_experts", 8)), HasSubstr("num_local_experts"));
  EXPECT_THAT(message_of(with(llama(), "num_key_value_heads", 3)),
              HasSubstr("num_key_value_heads is 3, in config.json"));
  EXPECT_THAT(message_of(with(llama(), "hidden_size", -1), ExitCode::kUsage), HasSubstr("64: hidden_size is -1"));
  EXPECT_THAT(message_of(with(llama(), "hidden_size", "big")), HasSubstr("hidden_size is \"big\""));
  EXPECT_THAT(message_of(with(llama(), "head_dim", 15)), HasSubstr("even"));
  EXPECT_THAT(message_of(Json::array()), HasSubstr("not a JSON object"));
}

TEST(ModelConfig, RopeInEverySpelling) {
  const Json v4 =
      Json{{"type", "yarn"}, {"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 512}};
  const ModelConfig old = parse(with(llama(), "rope_scaling", v4));
  EXPECT_EQ(old.rope.type, RopeType::kYarn);
  EXPECT_EQ(old.rope.base, 500000);
  EXPECT_EQ(old.rope.original_max_position_embeddings, 512);
  Json v5 = llama();
  v5.erase("rope_theta");
  v5["rope_parameters"] = Json{{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 1000.0}};
  EXPECT_EQ(parse(v5).rope.type, RopeType::kLinear);
  EXPECT_EQ(parse(v5).rope.base, 1000);
  const Json same = v5["rope_parameters"];
  v5["rope_parameters"] = Json{{"full_attention", same}, {"sliding_attention", same}};
  EXPECT_EQ(parse(v5).rope.factor, 2);
  v5["rope_parameters"]["sliding_attention"]["factor"] = 4.0;
  EXPECT_EQ(parse(v5).rope.factor, 2);
  EXPECT_EQ(parse(v5).sliding_rope.value().factor, 4);
  // The newer spelling wins in either order; rope_scaling replaces rope_parameters.
  Json both = llama();
  both["rope_scaling"] = Json{{"type", "linear"}, {"rope_type", "dynamic"}, {"factor", 4.0}};
  EXPECT_EQ(parse(both).rope.type, RopeType::kDynamic);
  both["rope_parameters"] = same;
  EXPECT_EQ(parse(both).rope.type, RopeType::kDynamic);
  EXPECT_TRUE(parse(with(with(llama(), "rope_scaling", v4), "resonance_rope", true)).rope.resonance);
  EXPECT_THAT(message_of(with(llama(), "rope_scaling", Json{{"rope_type", "yarn"}})), HasSubstr("needs factor"));
  EXPECT_THAT(message_of(with(llama(), "rope_scaling", Json{{"rope_type", "spiral"}})),
              HasSubstr("unknown rope type 'spiral'"));
  EXPECT_EQ(parse(with(llama(), "rope_scaling", nullptr)).rope.type, RopeType::kDefault);
}

TEST(ModelConfig, WritesWhatItRead) {
  const Json scaling =
      Json{{"type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 512}, {"resonance", true}};
  const ModelConfig config = parse(with(llama(), "rope_scaling", scaling));
  const std::string text = write_model_config(config);
  const ModelConfig again = parse_model_config(text, "written");
  EXPECT_EQ(write_model_config(again), text);
  EXPECT_EQ(again.source["something_else"]["kept"], true);
  EXPECT_TRUE(again.rope.resonance);
  EXPECT_EQ(make_rope_table(again.rope, 16, 1).period, make_rope_table(config.rope, 16, 1).period);
}

TEST(RopeConfig, MergesKeyByKey) {
  const ModelConfig model = parse(
      with(llama(), "rope_scaling",
           Json{{"rope_type", "yarn"}, {"factor", 8.0}, {"beta_fast", 16}, {"original_max_position_embeddings", 512}}));
  const RopeConfig more = merge_rope_config(model.rope, Json{{"factor", 16}}, "test");
  EXPECT_EQ(more.factor, 16);
  EXPECT_EQ(more.beta_fast, 16);
  // Another type drops the old type's keys; base, resonance and the original length stay.
  const RopeConfig linear = merge_rope_config(model.rope, Json{{"type", "linear"}, {"factor", 2}}, "test");
  EXPECT_EQ(linear.base, 500000);
  EXPECT_EQ(linear.original_max_position_embeddings, 512);
  EXPECT_FALSE(linear.settings.contains("beta_fast"));
  EXPECT_THROW(merge_rope_config(model.rope, Json{{"type", "linear"}}, "test"), Error);
  EXPECT_THROW(merge_rope_config(model.rope, Json{{"type", "resonance_yarn"}}, "test"), Error);  // drops the factor
  EXPECT_TRUE(merge_rope_config(model.rope, Json{{"resonance", true}}, "test").resonance);
  EXPECT_EQ(merge_rope_config(model.rope, Json{{"type", "yarn"}}, "test").factor, 8);
  // CoPE applies after any type, so a change of type keeps it; 0 removes it.
  const RopeConfig faded = merge_rope_config(model.rope, Json{{"cope", 4}}, "test");
  EXPECT_EQ(merge_rope_config(faded, Json{{"type", "linear"}, {"factor", 2}}, "test").cope, 4);
  EXPECT_EQ(merge_rope_config(faded, Json{{"cope", 0}}, "test").cope, 0);
}

TEST(ModelConfig, TensorParallelNamesTheNearest) {
  Json json = with(with(llama(), "num_attention_heads", 12), "hidden_size", 192);
  const ModelConfig config = parse(with(json, "num_key_value_heads", 2));
  for (int64_t tensor : {1, 2, 4, 6, 12}) EXPECT_NO_THROW(require_tensor_parallel(config, tensor));
  try {
    require_tensor_parallel(config, 5);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("use 4 or 6"));
  }
  EXPECT_THROW(require_tensor_parallel(config, 3), Error);
}

}  // namespace
}  // namespace carillon
