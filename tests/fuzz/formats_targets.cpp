// Files of models: safetensors, the index of a sharded folder, manifests, the answers of the HDF5 process about a file,
// config.json, adapter_config.json, and JSON itself.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include "data/chat/json.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/files/hdf5_description.h"
#include "data/files/packed_text.h"
#include "data/formats/hugging_face_folder.h"
#include "data/formats/safetensors.h"
#include "model/adapter_config.h"
#include "model/config.h"
#include "model/rope_report.h"
#include "runtime/parse_json.h"
#include "tests/fuzz/formats_targets.h"

namespace carillon::fuzz {
namespace {

namespace fs = std::filesystem;

const char* const kLlama =
    R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":23,"hidden_size":8,"intermediate_size":12,)"
    R"("num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"rms_norm_eps":1e-6,)"
    R"("max_position_embeddings":64,"tie_word_embeddings":false,"hidden_act":"silu","rope_theta":100.0})";

std::string safetensors_of(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\x3c');
}

const char* const kTwoTensors =
    R"({"__metadata__":{"format":"pt"},"lm_head.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]},)"
    R"("model.norm.weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})";

void run_json(std::string_view bytes) {
  const Json value = parse_json(bytes, "a.json");
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  require(parse_json(text, "its own text") == value, "JSON is another value once written and read");
  const auto sorted = parse_json<nlohmann::json>(bytes, "a.json", ExitCode::kBadInput, {.unique_keys = true});
  require(parse_json<nlohmann::json>(sorted.dump(), "its own text") == sorted,
          "JSON is another value once written and read");
}

// The JSON reader of the chat templates, which keeps integers of any length.
void run_template_json(std::string_view bytes) {
  jinja::Heap heap;
  std::string text;
  try {
    text = jinja::to_json(heap, jinja::read_json(heap, bytes));
  } catch (const std::invalid_argument&) {
    return;
  } catch (const jinja::TemplateError&) {
    return;
  }
  require(jinja::to_json(heap, jinja::read_json(heap, text)) == text, "a row is another text once written and read");
}

void run_safetensors(std::string_view bytes) {
  const SafetensorsFile file(write_file("model.safetensors", bytes));
  size_t sum = 0;
  for (const auto& [name, entry] : file.entries()) {
    require(entry.begin >= 8 && entry.bytes >= 0 && entry.begin + entry.bytes <= static_cast<int64_t>(bytes.size()),
            "a tensor lies outside of its file");
    const auto elements = file.bytes_of(entry);
    if (!elements.empty()) sum += static_cast<size_t>(elements.front()) + static_cast<size_t>(elements.back());
  }
  require(sum < (size_t{1} << 40), "");  // uses the sum, so the bytes are really read
}

void run_index(std::string_view bytes) {
  static const std::string folder = [] {
    write_file("config.json", kLlama);
    write_file("model-1.safetensors",
               safetensors_of(R"({"model.norm.weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", 4));
    write_file("model-2.safetensors",
               safetensors_of(R"({"lm_head.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16));
    return scratch_folder();
  }();
  write_file("model.safetensors.index.json", bytes);
  fs::remove(folder + "/model.safetensors");
  const HuggingFaceFolder opened(folder);
  for (const std::string& name : opened.tensor_names()) {
    const auto tensor = opened.find(name);
    require(tensor && fs::path(tensor->path).parent_path() == folder, "the index leads out of its folder");
  }
}

// Corrects the hash; otherwise nothing after the hash check would ever run.
std::string with_hash(std::string text) {
  constexpr std::string_view kKey = "\"hash\": \"";
  const size_t at = text.rfind(kKey);
  if (at == std::string::npos || at + kKey.size() + 32 > text.size()) return text;
  text.replace(at + kKey.size(), 32, std::string(32, '0'));
  return text.replace(at + kKey.size(), 32, hash_of_text(text));
}

void run_manifest(std::string_view bytes) {
  const std::string folder = scratch_folder() + "/step-00000007";
  fs::create_directories(folder);
  write_file("step-00000007/manifest.json", with_hash(std::string(bytes)));
  const Manifest manifest = read_manifest(folder);
  require(manifest.step == 7, "a manifest of another step is taken");
  for (const auto& [name, entry] : manifest.tensors)
    require(std::all_of(entry.shape.begin(), entry.shape.end(), [](int64_t size) { return size >= 0; }),
            "a negative size");
}

void run_hdf5_description(std::string_view bytes) {
  constexpr int64_t kFile = 4096;
  Hdf5Description description;
  if (!read_description(bytes, kFile, description)) return;
  for (const auto& [name, entry] : description.datasets) {
    if (!entry.refused.empty() || entry.place < 0) continue;
    int64_t count = size_of(entry.dataset.type);
    for (const int64_t size : entry.dataset.shape) count *= size;
    require(entry.place + count <= kFile, "a dataset lies outside of its file");
  }
}

std::vector<std::string> description_seeds() {
  std::string text;
  put_number(text, 1);
  for (const char* part : {"config", "{}", ""}) put_text(text, part);
  put_number(text, 2);
  for (const char* name : {"model/model.norm.weight", "model/chunks"}) {
    put_text(text, name);
    for (const int64_t number : {1, 2, 8, 16, 128}) put_number(text, number);
    put_text(text, "");
  }
  return {text};
}

void run_model_config(std::string_view bytes) {
  const ModelConfig config = parse_model_config(bytes, "config.json");
  require(config.parameter_count() > 0, "a model without parameters");
  require(config.num_attention_heads % config.num_key_value_heads == 0, "heads that do not divide are taken");
  require(static_cast<int64_t>(config.layers.size()) == config.num_hidden_layers, "layers that nobody described");
  const std::string text = write_model_config(config);
  require(write_model_config(parse_model_config(text, "its own config.json")) == text,
          "config.json is another text once written and read");
  if (config.head_dim <= 1024 && config.max_position_embeddings <= (1 << 12) &&
      config.rope.original_max_position_embeddings <= (1 << 12))
    report_rope(config.rope, config.head_dim, config.max_position_embeddings);
}

std::vector<std::string> config_seeds(const std::string& source) {
  std::vector<std::string> texts = texts_below(source + "/tests/golden/models", "config.json");
  texts.emplace_back(kLlama);
  std::string yarn = kLlama;
  yarn.replace(yarn.size() - 1, 1,
               R"(,"rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32}})");
  texts.push_back(yarn);
  return texts;
}

const char* const kAdapter =
    R"({"peft_type":"LORA","r":4,"lora_alpha":8,"lora_dropout":0.1,"use_rslora":false,"bias":"none","task_type":"CAUSAL_LM",)"
    R"("target_modules":["q_proj","down_proj"],"rank_pattern":{"q_proj":2},"alpha_pattern":{}})";

void run_adapter_config(std::string_view bytes) {
  static const ModelConfig model = parse_model_config(kLlama, "config.json");
  const std::string q = "model.layers.0.self_attn.q_proj", down = "model.layers.0.mlp.down_proj";
  const AdapterConfig adapter = parse_adapter_config(bytes,
                                                     {{adapter_a_name(q), {2, 8}},
                                                      {adapter_b_name(q), {8, 2}},
                                                      {adapter_a_name(down), {4, 12}},
                                                      {adapter_b_name(down), {8, 4}}},
                                                     model, "adapter_config.json");
  for (const auto& [name, module] : adapter.modules) require(module.rank > 0, "a rank of nothing");
  write_adapter_config(adapter, model, "base");
}

}  // namespace

std::vector<Target> formats_targets() {
  const auto of = [](std::vector<std::string> texts) { return [texts](const std::string&) { return texts; }; };
  const std::vector<std::string> json = {R"({"a":[1,-2.5e3,null,true,"\u00e9\ud83d\ude00"],"b":{"c":{}}})", "[[[[]]]]",
                                         R"({"n":123456789012345678901234567890,"x":1e308})", "\"\\u0000\"", "-0"};
  const std::string manifest =
      R"({"step": 7, "format_version": 1, "layout": {}, "data": {"consumed": 12}, "config": {"run": {}, "model": {}},)"
      R"( "tensors": {"model/model.norm.weight": {"dtype": "bfloat16", "shape": [2], "hash": "0123456789abcdef"}},)"
      R"( "hash": "00000000000000000000000000000000"})";
  return {
      {"json", run_json, of(json)},
      {"template_json", run_template_json, of(json)},
      {"safetensors", run_safetensors,
       of({safetensors_of(kTwoTensors, 20), safetensors_of("{}", 0),
           safetensors_of(R"({"a":{"dtype":"F4","shape":[2,0],"data_offsets":[0,0]}})", 0)})},
      {"index", run_index,
       of({R"({"metadata":{"total_size":20},"weight_map":{"model.norm.weight":"model-1.safetensors","lm_head.weight":"model-2.safetensors"}})",
           R"({"weight_map":{"lm_head.weight":"../model-2.safetensors"}})"})},
      {"manifest", run_manifest, of({manifest})},
      {"hdf5_description", run_hdf5_description, of(description_seeds())},
      {"model_config", run_model_config, config_seeds},
      {"adapter_config", run_adapter_config, of({kAdapter})},
  };
}

}  // namespace carillon::fuzz
