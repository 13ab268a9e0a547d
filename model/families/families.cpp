#include "model/families/family.h"

#include "runtime/error.h"

namespace carillon {

// Defaults of transformers 5.24 (configuration_*.py).
const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      {.model_type = "llama",
       .class_name = "LlamaForCausalLM",
       .read = read_llama,
       .defaults = {32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6, false, "2"}},
      {.model_type = "mistral",
       .class_name = "MistralForCausalLM",
       .read = read_mistral,
       .defaults = {32000, 4096, 14336, 32, 32, 8, 0, 131072, 1e-6, false, "2"},
       .windows = Family::Windows::kAll},
      {.model_type = "qwen2",
       .class_name = "Qwen2ForCausalLM",
       .read = read_qwen2,
       .defaults = {151936, 4096, 22016, 32, 32, 32, 0, 32768, 1e-6, false},
       .windows = Family::Windows::kByLayer},
      {.model_type = "qwen3",
       .class_name = "Qwen3ForCausalLM",
       .read = read_qwen3,
       .defaults = {151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-6, false},
       .windows = Family::Windows::kByLayer},
      {.model_type = "gemma",
       .class_name = "GemmaForCausalLM",
       .read = read_gemma,
       .defaults = {256000, 3072, 24576, 28, 16, 16, 256, 8192, 1e-6, true, "1"}},
      {.model_type = "gemma3_text",
       .class_name = "Gemma3ForCausalLM",
       .read = read_gemma3,
       .defaults = {262208, 2304, 9216, 26, 8, 4, 256, 131072, 1e-6, true, "1",
                    R"({"rope_type": "default", "rope_theta": 1000000.0})",
                    R"({"rope_type": "default", "rope_theta": 10000.0})"},
       .windows = Family::Windows::kByLayer},
      {.model_type = "olmo2",
       .class_name = "Olmo2ForCausalLM",
       .read = read_olmo2,
       .defaults = {50304, 4096, 11008, 32, 32, 0, 0, 2048, 1e-5, false, "50279"}},
      {.model_type = "olmo3",
       .class_name = "Olmo3ForCausalLM",
       .read = read_olmo3,
       .defaults = {50304, 4096, 11008, 32, 32, 0, 0, 2048, 1e-5, false, "50279",
                    R"({"rope_type": "default", "rope_theta": 500000.0})",
                    R"({"rope_type": "default", "rope_theta": 500000.0})"},
       .windows = Family::Windows::kByLayer},
      {.model_type = "smollm3",
       .class_name = "SmolLM3ForCausalLM",
       .read = read_smollm3,
       .defaults = {128256, 2048, 11008, 36, 16, 4, 0, 32768, 1e-6, true, "128001",
                    R"({"rope_type": "default", "rope_theta": 2000000.0})"},
       .windows = Family::Windows::kByLayer,
       .can_mark_no_rope = true},
      {.model_type = "ministral3",
       .class_name = "Ministral3ForCausalLM",
       .read = read_ministral3,
       .defaults = {131072, 4096, 14336, 34, 32, 8, 128, 262144, 1e-5, false, "2",
                    R"({"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0,
                        "original_max_position_embeddings": 16384, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
                        "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1})"},
       .windows = Family::Windows::kAll,
       .write = write_ministral3},
      {.model_type = "phi3",
       .class_name = "Phi3ForCausalLM",
       .read = read_phi3,
       .defaults = {32064, 3072, 8192, 32, 32, 0, 0, 4096, 1e-5, false, "32000"},
       .fused_projections = true,
       .windows = Family::Windows::kAll,
       .write = write_phi3},
      {.model_type = "granite",
       .class_name = "GraniteForCausalLM",
       .read = read_granite,
       .defaults = {32000, 4096, 11008, 32, 32, 0, 0, 2048, 1e-6, false, "2"}},
      {.model_type = "seed_oss",
       .class_name = "SeedOssForCausalLM",
       .read = read_seed_oss,
       .defaults = {155136, 4096, 27648, 64, 80, 8, 128, 524288, 1e-6, false, "2"}},
      {.model_type = "cwm",
       .class_name = "CwmForCausalLM",
       .read = read_cwm,
       .defaults = {128256, 6144, 21504, 64, 48, 8, 128, 131072, 1e-5, false, "[128001, 128008, 128009]",
                    R"({"rope_type": "llama3", "rope_theta": 1000000.0, "factor": 16.0, "high_freq_factor": 4.0,
                        "low_freq_factor": 1.0, "original_max_position_embeddings": 8192})"},
       .windows = Family::Windows::kByLayer},
      {.model_type = "exaone4",
       .class_name = "Exaone4ForCausalLM",
       .read = read_exaone4,
       .defaults = {102400, 4096, 16384, 32, 32, 32, 0, 2048, 1e-5, false, "2"},
       .windows = Family::Windows::kByLayer,
       .can_mark_no_rope = true},
      {.model_type = "hunyuan_v1_dense",
       .class_name = "HunYuanDenseV1ForCausalLM",
       .read = read_hunyuan,
       .defaults = {290943, 4096, 11008, 32, 32, 0, 0, 2048, 1e-5, false, "2"},
       .q_norm = "self_attn.query_layernorm.weight",
       .k_norm = "self_attn.key_layernorm.weight",
       .write = write_hunyuan},
  };
  return table;
}

const Family* find_family(const std::string& model_type) {
  for (const Family& family : families())
    if (model_type == family.model_type) return &family;
  return nullptr;
}

std::string family_names() {
  std::string names;
  for (const Family& family : families()) names += (names.empty() ? "" : ", ") + std::string(family.model_type);
  return names;
}

}  // namespace carillon
