#include "launch/train/event_scalars.h"

#include <fmt/format.h>

#include <cmath>

namespace carillon {

Scalars scalars_of(const StepMetrics& record) {
  Scalars scalars{{"train/loss", record.loss.value_or(NAN)},
                  {"train/grad_norm", record.grad_norm.value_or(NAN)},
                  {"train/lr", record.lr},
                  {"train/tokens", static_cast<double>(record.tokens)},
                  {"train/tokens_total", static_cast<double>(record.tokens_total)},
                  {"speed/tokens_per_second", record.tokens_per_second},
                  {"speed/seconds", record.seconds},
                  {"memory/peak_bytes", static_cast<double>(record.peak_memory_bytes)}};
  for (const auto& [name, tokens] : record.tokens_by_source)
    scalars.emplace_back("tokens_by_source/" + name, static_cast<double>(tokens));
  return scalars;
}

Scalars scalars_of(const Json& evaluation) {
  Scalars scalars;
  const std::string rope = evaluation.value("rope_name", "own");
  const Json metrics = evaluation.value("metrics", Json::object());
  for (const auto& [name, value] : metrics.items())
    if (value.is_number())
      scalars.emplace_back(fmt::format("eval/{}/{}/{}{}", evaluation.value("task", ""), name,
                                       evaluation.value("length", int64_t{0}), rope == "own" ? "" : "/" + rope),
                           value.get<double>());
  return scalars;
}

}  // namespace carillon
