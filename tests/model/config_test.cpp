// config.json in all its common spellings, what is refused, and writing it back.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/families/family.h"
#include "model/rope.h"
#include "model/same_model.h"

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
  EXPECT_THAT(message_of(with(llama(), "moe_intermediate_size", 64)), HasSubstr("moe_intermediate_size"));
  EXPECT_THAT(message_of(with(llama(), "num_experts", Json{1, 8})), HasSubstr("num_experts is [1,8]"));
  // One expert, or none, is a dense model.
  EXPECT_EQ(message_of(with(with(llama(), "num_experts", 1), "moe_intermediate_size", Json{64})), "accepted");
  EXPECT_EQ(message_of(with(llama(), "num_local_experts", 0)), "accepted");
  EXPECT_THAT(message_of(with(llama(), "num_key_value_heads", 3)),
              HasSubstr("num_key_value_heads is 3, in config.json"));
  EXPECT_THAT(message_of(with(llama(), "hidden_size", -1), ExitCode::kUsage), HasSubstr("64: hidden_size is -1"));
  EXPECT_THAT(message_of(with(llama(), "hidden_size", "big")), HasSubstr("hidden_size is \"big\""));
  EXPECT_THAT(message_of(with(llama(), "head_dim", 15)), HasSubstr("even"));
  EXPECT_THAT(message_of(Json::array()), HasSubstr("not a JSON object"));
}

// The text model of a wrapper is by default that of the wrapper's class in transformers.
TEST(ModelConfig, WrappersWithoutATextModelType) {
  Json text = llama();
  for (const char* key : {"model_type", "architectures"}) text.erase(key);
  const auto wrapped = [&](const char* wrapper) { return Json{{"model_type", wrapper}, {"text_config", text}}; };
  const auto type_of = [&](const char* wrapper) { return std::string(parse(wrapped(wrapper)).family->model_type); };
  for (const char* wrapper : {"llava", "llava_next", "smolvlm", "idefics3"}) EXPECT_EQ(type_of(wrapper), "llama");
  for (const char* wrapper : {"internvl", "llava_onevision"}) EXPECT_EQ(type_of(wrapper), "qwen2");
  EXPECT_EQ(type_of("mistral3"), "mistral");
  EXPECT_EQ(type_of("gemma3"), "gemma3_text");
  EXPECT_THAT(message_of(wrapped("something_new")), HasSubstr("65: text_config has no model_type"));
  EXPECT_THAT(message_of(Json{{"text_config", text}}), HasSubstr("65: text_config has no model_type"));
  EXPECT_THAT(message_of(with(wrapped("gemma3"), "architectures", Json{"Gemma3ForSequenceClassification"})),
              HasSubstr("(Gemma3ForSequenceClassification) is not supported"));
}

// YaRN's truncate stands beside the kinds of layer; within one of them, transformers does not see it.
TEST(ModelConfig, TruncateOfClassesWithTwoRotations) {
  const Json plain = with(with(llama(), "model_type", "olmo3"), "sliding_window", 8);
  const Json yarn{{"rope_type", "yarn"}, {"factor", 8.0}, {"rope_theta", 100.0}};
  const auto read = [&](const Json& full, const Json& truncate) {
    Json kinds{{"full_attention", full}, {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 200.0}}}};
    if (!truncate.is_null()) kinds["truncate"] = truncate;
    return parse(with(plain, "rope_parameters", kinds));
  };
  const ModelConfig inside = read(with(yarn, "truncate", false), nullptr);
  EXPECT_TRUE(inside.rope.truncate);
  ASSERT_EQ(inside.remarks.size(), 1u);
  EXPECT_THAT(inside.remarks[0], HasSubstr("truncate of a kind of layer does not count"));
  EXPECT_TRUE(read(with(yarn, "truncate", true), nullptr).remarks.empty());
  const ModelConfig beside = read(yarn, false);
  EXPECT_FALSE(beside.rope.truncate);
  EXPECT_TRUE(beside.remarks.empty());
  EXPECT_TRUE(same_model(parse_model_config(write_model_config(beside), "model.h5"), beside));
  const ModelConfig merged = [&] {
    ModelConfig config = read(yarn, nullptr);
    static_cast<ModelRope&>(config) = merge_model_rope(config, Json{{"truncate", false}}, "rope");
    return parse_model_config(write_model_config(config), "model.h5");
  }();
  EXPECT_FALSE(merged.rope.truncate);
  const Json differing{{"truncate", false}, {"sliding_attention", {{"type", "yarn"}, {"factor", 2.0}}}};
  EXPECT_THROW(merge_model_rope(read(yarn, nullptr), differing, "rope"), Error);
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

// The classes with a rotation for each kind of layer put rope_scaling over what they have for full attention, where a
// rope_type already stands.
TEST(ModelConfig, ScalingOfClassesWithTwoRotations) {
  for (const char* name : {"gemma3_text", "olmo3"}) {
    const Json plain = with(with(with(llama(), "model_type", name), "sliding_window", 8), "rope_theta", 5000.0);
    const ModelConfig new_spelling = parse(with(plain, "rope_scaling", Json{{"rope_type", "linear"}, {"factor", 8.0}}));
    EXPECT_EQ(new_spelling.rope.type, RopeType::kLinear);
    EXPECT_TRUE(new_spelling.remarks.empty());
    const ModelConfig old_spelling = parse(with(plain, "rope_scaling", Json{{"type", "linear"}, {"factor", 8.0}}));
    EXPECT_EQ(old_spelling.rope.type, RopeType::kDefault);
    EXPECT_EQ(old_spelling.rope.base, 5000);
    ASSERT_EQ(old_spelling.remarks.size(), 1u);
    EXPECT_THAT(old_spelling.remarks[0], HasSubstr("the type of rope_scaling does not count"));
    const Json kinds{{"full_attention", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 100.0}}},
                     {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 200.0}}}};
    const ModelConfig both = parse(with(with(plain, "rope_parameters", kinds), "rope_scaling", Json{{"factor", 4.0}}));
    EXPECT_EQ(both.rope.type, RopeType::kLinear);
    EXPECT_EQ(both.rope.factor, 4);
    EXPECT_EQ(both.rope.base, 100);
    EXPECT_EQ(both.sliding_rope.value().base, 200);
  }
  // Only gemma3's class reads this key.
  const auto local = [](const char* name) {
    return parse(with(with(with(llama(), "model_type", name), "sliding_window", 8), "rope_local_base_freq", 77.0))
        .sliding_rope.value()
        .base;
  };
  EXPECT_EQ(local("gemma3_text"), 77);
  EXPECT_EQ(local("olmo3"), 500000);
}

TEST(ModelConfig, SaysWhatTransformersLeavesOut) {
  const auto remark = [](const Json& json) {
    const ModelConfig config = parse(json);
    return config.remarks.empty() ? std::string() : config.remarks[0];
  };
  const Json mistral = family("mistral", "MistralForCausalLM");
  EXPECT_EQ(remark(with(mistral, "sliding_window", 8)), "");
  EXPECT_THAT(remark(with(with(mistral, "sliding_window", 8), "max_window_layers", 1)), HasSubstr("max_window_layers"));
  EXPECT_THAT(
      remark(with(with(mistral, "sliding_window", 8), "use_sliding_window", false)),
      HasSubstr("use_sliding_window is applied, in config.json: transformers' MistralForCausalLM leaves it out"));
  EXPECT_THAT(remark(with(llama(), "sliding_window", 8)), HasSubstr("sliding_window is applied"));
  EXPECT_THAT(remark(with(llama(), "no_rope_layers", Json{1, 0})), HasSubstr("no_rope_layers is applied"));
  const Json kinds{{"full_attention", {{"rope_type", "default"}, {"rope_theta", 100.0}}},
                   {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 200.0}}}};
  EXPECT_THAT(remark(with(llama(), "rope_parameters", kinds)), HasSubstr("sliding_attention of rope_parameters"));
  const Json full{{"full_attention", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 100.0}}}};
  EXPECT_THAT(remark(with(llama(), "rope_parameters", full)), HasSubstr("rope_parameters by kind of layer is applied"));
  const Json alpha{{"rope_type", "dynamic"}, {"factor", 1.0}, {"alpha", 10.0}};
  EXPECT_THAT(remark(with(llama(), "rope_scaling", alpha)), HasSubstr("alpha of a dynamic rotation is applied"));
  EXPECT_EQ(remark(with(family("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"), "rope_scaling", alpha)), "");
  // A run's own configuration, and the files made of it, mean what they say.
  Json own = with(llama(), "sliding_window", 8);
  for (const char* key : {"architectures", "something_else"}) own.erase(key);
  EXPECT_TRUE(parse_model_config(own.dump(), "model", ExitCode::kUsage).remarks.empty());
  EXPECT_EQ(remark(own), "");
}

TEST(ModelConfig, SaysWhichKeysOfARunHaveNoEffect) {
  Json own = llama();
  for (const char* key : {"architectures", "something_else"}) own.erase(key);
  const auto remarks = [](const Json& json) {
    return parse_model_config(json.dump(), "model", ExitCode::kUsage).remarks;
  };
  EXPECT_TRUE(remarks(own).empty());
  EXPECT_THAT(remarks(with(own, "logits_scaling", 8.0)),
              ElementsAre(HasSubstr("model.logits_scaling has no effect with architecture llama")));
  EXPECT_TRUE(remarks(with(with(own, "model_type", "granite"), "logits_scaling", 8.0)).empty());
  EXPECT_THAT(remarks(with(with(own, "model_type", "mistral"), "attention_bias", true)), testing::SizeIs(1));
  EXPECT_TRUE(parse(with(llama(), "logits_scaling", 8.0)).remarks.empty());  // a file's: no concern of ours
}

TEST(ModelConfig, ListsThatDoNotFitTheHeadAreTheFilesFault) {
  const Json right = Json(std::vector<double>(8, 1.0)), wrong = Json(std::vector<double>(7, 1.0));
  const auto scaling = [](const Json& short_factor, const Json& long_factor) {
    return with(llama(), "rope_scaling",
                Json{{"rope_type", "longrope"},
                     {"factor", 2.0},
                     {"short_factor", short_factor},
                     {"long_factor", long_factor},
                     {"original_max_position_embeddings", 16}});
  };
  EXPECT_EQ(message_of(scaling(right, right)), "accepted");
  EXPECT_THAT(message_of(scaling(wrong, right)), HasSubstr("65: rope.short_factor has 7 entries"));
  EXPECT_THAT(message_of(scaling(right, wrong)), HasSubstr("65: rope.long_factor has 7 entries"));
  EXPECT_THAT(message_of(scaling(right, wrong)), HasSubstr("in config.json"));
  EXPECT_THAT(message_of(scaling(right, wrong), ExitCode::kUsage), HasSubstr("64: rope.long_factor"));
}

TEST(ModelConfig, ADefaultThatIsWrittenOutIsTheSameModel) {
  const ModelConfig plain = parse(llama());
  EXPECT_TRUE(same_model(plain, parse(with(with(llama(), "head_dim", 16), "attention_bias", false))));
  EXPECT_TRUE(same_model(plain, parse(with(llama(), "rope_scaling", Json{{"rope_type", "default"}}))));
  for (const auto& [key, value] : {std::pair<const char*, Json>("rms_norm_eps", 1e-6),
                                   {"rope_theta", 10000.0},
                                   {"attention_bias", true},
                                   {"mlp_bias", true},
                                   {"sliding_window", 8},
                                   {"no_rope_layers", Json{1, 0}},
                                   {"vocab_size", 101},
                                   {"eos_token_id", 2},
                                   {"rope_scaling", Json{{"rope_type", "linear"}, {"factor", 2.0}}}})
    EXPECT_FALSE(same_model(plain, parse(with(llama(), key, value)))) << key;
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
