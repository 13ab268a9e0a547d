// Which tokens of a conversation are targets.
#pragma once

namespace carillon {

enum class TrainOn {
  kAssistant,      // every turn of the assistant; of prompt and completion the completion
  kLastAssistant,  // the last one only
  kAll,
};

}  // namespace carillon
