#include "options.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string_view>

namespace carillon_emulation {
namespace {

[[noreturn]] void refuse(std::string_view what) {
  std::fprintf(stderr, "CARILLON_EMULATION: %.*s (see tests/cuda_emulation/README.md)\n", static_cast<int>(what.size()),
               what.data());
  std::_Exit(64);
}

bool either(std::string_view value, std::string_view no, std::string_view yes) {
  if (value != no && value != yes) refuse(value);
  return value == yes;
}

void read_one(Options& options, std::string_view key, const std::string& value) {
  if (key == "order")
    options.descending = either(value, "ascending", "descending");
  else if (key == "copies")
    options.copies_early = either(value, "late", "early");
  else if (key == "streams") {
    options.adversarial = value.rfind("adversarial", 0) == 0;
    if (!options.adversarial && value != "ordered") refuse(value);
    const auto colon = value.find(':');
    if (colon != std::string::npos) options.seed = std::strtoull(value.c_str() + colon + 1, nullptr, 10);
  } else if (key == "devices")
    options.devices = std::atoi(value.c_str());
  else if (key == "visible")
    options.own_device = either(value, "all", "own");
  else if (key == "memory")
    options.memory_mib = std::strtoull(value.c_str(), nullptr, 10);
  else if (key == "products")
    options.products_aligned = either(value, "any", "aligned");
  else if (key == "algorithms") {
    options.algorithms = std::atoi(value.c_str());
    const auto colon = value.find(':');
    if (colon != std::string::npos) options.fastest_algorithm = std::atoi(value.c_str() + colon + 1);
    if (options.fastest_algorithm < 0 || options.fastest_algorithm >= options.algorithms) refuse(value);
  } else if (key == "pitch")
    options.pitch = std::strtoull(value.c_str(), nullptr, 10);
  else if (key == "context")
    options.context_mib = std::strtoull(value.c_str(), nullptr, 10);
  else if (key == "driver") {
    if (value != "present" && value != "none" && value != "old") refuse(value);
    options.driver = value;
  } else if (key == "process")
    options.own_process = either(value, "thread", "own");
  else if (key == "counters")
    options.counters = value;
  else if (key == "capability")
    options.capability = std::atoi(value.c_str());
  else if (key == "attention") {
    constexpr std::string_view kWrong[] = {"right", "out", "lse", "dk", "lost", "causal", "own"};
    const auto colon = value.find(':');
    const auto* found = std::find(std::begin(kWrong), std::end(kWrong), value.substr(0, colon));
    if (found == std::end(kWrong)) refuse(value);
    options.attention = static_cast<Options::Attention>(found - std::begin(kWrong));
    if (colon != std::string::npos) options.attention_calls = std::atoll(value.c_str() + colon + 1);
  } else if (key == "patience")
    options.patience = std::atof(value.c_str());
  else
    refuse(key);
}

}  // namespace

Options read_options() {
  Options options;
  const char* text = std::getenv("CARILLON_EMULATION");
  std::string_view rest = text ? text : "";
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
    const auto equals = item.find('=');
    if (equals == std::string_view::npos) refuse(item);
    read_one(options, item.substr(0, equals), std::string(item.substr(equals + 1)));
  }
  if (options.devices < 0 || options.devices > 16) refuse("devices is between 0 and 16");
  // As if a launcher gave every task its own device.
  if (options.own_device) {
    for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"})
      if (const char* rank = std::getenv(name)) options.first_device = std::atoi(rank);
    options.devices = options.first_device < options.devices ? 1 : 0;
  }
  if (options.context_mib > options.memory_mib) refuse("context is no more than memory");
  return options;
}

}  // namespace carillon_emulation
