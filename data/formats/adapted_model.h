// An adapter (LoRA) and the model it belongs to, as one source: the base's tensors, and the adapter's under their names
// in PEFT's state dict. An adapter is a PEFT folder (adapter_config.json, adapter_model.safetensors) or a checkpoint
// whose manifest has config.adapter; what its text means, model/adapter_config.h says.
#pragma once

#include <memory>
#include <string>

#include "data/formats/model_source.h"
#include "parallel/transport/communicator.h"

namespace carillon {

// A tensor of an adapter, not of a model.
bool is_adapter_tensor(const std::string& name);

// The adapter of a PEFT folder by itself. Errors: 66 without adapter_model.safetensors, 65.
std::unique_ptr<ModelSource> open_peft_folder(const std::string& path);

// Both as one. Error 65 where `base` is an adapter itself.
std::unique_ptr<ModelSource> adapt(std::unique_ptr<ModelSource> base, std::unique_ptr<ModelSource> adapter);

// Hexadecimal digits of the names, shapes and stored bits of all its tensors: what an adapter knows its base by. The
// same for a Hugging Face folder and the model file made from it. Collective; every rank reads its share of the
// tensors.
std::string content_hash(Communicator& world, const ModelSource& source);

}  // namespace carillon
