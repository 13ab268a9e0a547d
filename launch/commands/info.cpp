// carillon info: what this program is and what this machine offers it.
#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "data/libraries.h"
#include "launch/commands/commands.h"
#include "launch/version.h"
#include "parallel/libraries.h"
#include "runtime/backend.h"
#include "runtime/cuda/library.h"

namespace carillon {
namespace {

using Json = nlohmann::ordered_json;

// The library of the CUDA side, what it stands on, and the devices it finds; or why there is none.
Json collect_cuda() {
  const CudaSurvey survey = survey_cuda();
  Json cuda;
  cuda["library"] = survey.library.empty() ? "none" : survey.library;
  cuda["devices"] = survey.devices;
  if (!survey.problem.empty()) cuda["problem"] = survey.problem;
  for (const auto& [name, version] : survey.libraries) cuda[name] = version;
  return cuda;
}

Json collect(Program& program) {
  Json info;
  info["version"] = kVersion;
  info["build"] = {{"compiler", kCompiler}, {"type", kBuildType}};
  const DeviceDescription device = make_backend({.device = "cpu"})->describe();
  info["devices"] = Json::array({{{"name", device.name},
                                  {"processor", device.processor},
                                  {"instruction_set", device.instruction_set},
                                  {"available", device.available},
                                  {"bfloat16_native", device.bfloat16_native},
                                  {"threads", device.threads}}});
  if (program.main_rank()) info["cuda"] = collect_cuda();
  Json libraries = Json::object();
  for (const auto& [name, version] : device.libraries) libraries[name] = version;
  for (const auto& [name, version] : parallel_libraries()) libraries[name] = version;
  for (const auto& [name, version] : data_libraries()) libraries[name] = version;
  libraries["CLI11"] = CLI11_VERSION;
  libraries["nlohmann-json"] =
      fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
  info["libraries"] = libraries;
  info["mpi"] = {{"started", program.ranks() > 1 || started_under_mpi()}, {"ranks", program.ranks()}};
  return info;
}

void print(const Json& value, const std::string& indent) {
  for (const auto& [key, item] : value.items()) {
    const std::string label = value.is_array() ? "-" : key + ":";
    if (item.is_structured() && !item.empty() && !(item.is_array() && item[0].is_string())) {
      fmt::print("{}{}\n", indent, label);
      print(item, indent + "  ");
    } else {
      fmt::print("{}{} {}\n", indent, label, item.is_string() ? item.get<std::string>() : item.dump());
    }
  }
}

}  // namespace

ExitCode run_info(Program& program, const CommandLine& line) {
  const Json info = collect(program);
  if (!program.main_rank()) return ExitCode::kDone;
  if (line.json)
    fmt::print("{}\n", info.dump(2));
  else
    print(info, "");
  return ExitCode::kDone;
}

}  // namespace carillon
