// Presents an adapter (LoRA) and the model it belongs to as one source: the base's tensors, and the adapter's under
// their names in PEFT's state dict. An adapter is a PEFT folder (adapter_config.json, adapter_model.safetensors) or a
// checkpoint whose manifest has config.adapter; model/adapter_config.h interprets its text. PEFT's files cannot say
// that the adapter was trained with another rotation than its base's; our export then writes the base's config.json
// with that rotation as kBaseConfig into the folder, and it is read back with the adapter.
#pragma once

#include <memory>
#include <string>

#include "data/formats/model_source.h"
#include "parallel/transport/communicator.h"

namespace carillon {

inline constexpr const char* kBaseConfig = "base_config/config.json";

// Whether the tensor belongs to an adapter rather than to a model.
bool is_adapter_tensor(const std::string& name);

// Opens the adapter of a PEFT folder without its base. Errors: 66 without adapter_model.safetensors, 65.
std::unique_ptr<ModelSource> open_peft_folder(const std::string& path);

// Combines both. Error 65 if `base` is itself an adapter.
std::unique_ptr<ModelSource> adapt(std::unique_ptr<ModelSource> base, std::unique_ptr<ModelSource> adapter);

// A hash in hexadecimal digits of the names, shapes and stored bits of all tensors, by which an adapter recognises its
// base. A Hugging Face folder and the model file made from it have the same hash. Collective; every rank reads its
// share of the tensors.
std::string content_hash(Communicator& world, const ModelSource& source);

}  // namespace carillon
