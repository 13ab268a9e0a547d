// carillon info: describes this program and what this machine offers it.
#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "data/files/libraries.h"
#include "launch/commands/commands.h"
#include "launch/config/run_config.h"
#include "launch/version.h"
#include "parallel/transport/libraries.h"
#include "parallel/transport/nccl_library.h"
#include "runtime/backend.h"
#include "runtime/cuda/loader/library.h"
#include "runtime/text.h"

namespace carillon {
namespace {

using Json = nlohmann::ordered_json;

// Returns a device's peak figures, without those that are not known.
Json peak_json(const DevicePeak& peak) {
  Json json = Json::object();
  for (const auto& [dtype, rate] : peak.flops_per_second)
    json[fmt::format("{}_flops_per_second", name_of(dtype))] = rate;
  if (peak.memory_bytes_per_second > 0) json["memory_bytes_per_second"] = peak.memory_bytes_per_second;
  if (!peak.source.empty()) json["source"] = peak.source;
  return json;
}

Json device_json(const CudaDevice& device) {
  Json json = {{"name", device.figures.name},
               {"compute_capability", fmt::format("{}.{}", device.figures.major, device.figures.minor)},
               {"multiprocessors", device.figures.multiprocessors},
               {"clock_hz", device.figures.clock},
               {"memory_bytes", device.memory_bytes},
               {"l2_bytes", device.l2_bytes},
               {"memory_clock_hz", device.figures.memory_clock},
               {"memory_bus_bits", device.figures.memory_bus_bits},
               {"bus", device.place}};
  if (device.free_bytes) json["free_bytes"] = *device.free_bytes;
  json["peak"] = peak_json(device.peak);
  return json;
}

// Returns the CUDA library, what it is built on and the devices it finds, or why there is none. If a run would use a
// device (runtime.device=cuda), creates a context on each, so that its free memory is known, and the first one shows
// which attention kernels it uses.
Json collect_cuda(const RuntimeSection& runtime) {
  const bool take = runtime.device == "cuda";
  const CudaSurvey survey = survey_cuda();
  Json cuda;
  cuda["library"] = survey.library.empty() ? "none" : survey.library;
  if (!survey.problem.empty()) {
    if (take) fail(ExitCode::kUsage, "{}", survey.problem);
    cuda["devices"] = survey.devices;
    cuda["problem"] = survey.problem;
  } else {
    const CudaMachine machine = inspect_cuda(take);
    Json devices = Json::array(), links = Json::object();
    for (const CudaDevice& device : machine.devices) devices.push_back(device_json(device));
    for (const CudaLink& link : machine.links) links[fmt::format("{}-{}", link.from, link.to)] = link.kind;
    cuda["devices"] = devices;
    cuda["links"] = links;
    if (take) {
      BackendOptions options;
      options.device = "cuda";
      options.attention = runtime.attention;
      cuda["attention"] = make_backend(options)->describe().attention;
    }
  }
  for (const auto& [name, version] : survey.libraries) cuda[name] = version;
  if (const std::string nccl = nccl_version(); !nccl.empty()) cuda["NCCL"] = nccl;
  return cuda;
}

Json collect(Program& program, const RuntimeSection& runtime) {
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
  if (program.main_rank()) info["cuda"] = collect_cuda(runtime);
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

std::string help_info() {
  RuntimeSection runtime;
  Schema schema;
  declare_runtime(schema, runtime);
  return schema.help();
}

ExitCode run_info(Program& program, const CommandLine& line) {
  if (!line.files.empty())
    fail(ExitCode::kUsage, "info takes no files, not {}, on the command line, carillon info [runtime.*=…]",
         printable(line.files[0]));
  RuntimeSection runtime;
  Schema schema;
  declare_runtime(schema, runtime);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("info");
  const Json info = collect(program, runtime);
  if (!program.main_rank()) return ExitCode::kDone;
  if (line.json)
    fmt::print("{}\n", info.dump(2));
  else
    print(info, "");
  return ExitCode::kDone;
}

}  // namespace carillon
