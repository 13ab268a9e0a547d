// Which tokens of a conversation are targets.
#pragma once

namespace carillon {

enum class TrainOn {
  kAssistant,      // every assistant turn; for prompt and completion, the completion
  kLastAssistant,  // only the last assistant turn
  kAll,
};

}  // namespace carillon
