#include "runtime/cpu/instruction_set.h"

#include <cstdlib>

#include "runtime/cpu/amx_permission.h"
#include "runtime/error.h"

namespace carillon {

std::string name_of(InstructionSet set) {
  constexpr const char* kNames[] = {"baseline", "avx2", "avx512", "avx512_bf16", "amx"};
  return kNames[static_cast<int>(set)];
}

std::vector<InstructionSet> available_instruction_sets() {
  std::vector<InstructionSet> sets{InstructionSet::kBaseline};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx2) sets.insert(sets.begin(), InstructionSet::kAvx2);
  if (avx512) sets.insert(sets.begin(), InstructionSet::kAvx512);
  const bool pairs = avx512 && __builtin_cpu_supports("avx512bf16");
  if (pairs) sets.insert(sets.begin(), InstructionSet::kAvx512Bf16);
  if (pairs && cpu::amx_permitted()) sets.insert(sets.begin(), InstructionSet::kAmx);
  return sets;
}

InstructionSet choose_instruction_set(const std::string& wanted) {
  const std::vector<InstructionSet> sets = available_instruction_sets();
  const char* from_environment = std::getenv("CARILLON_ISA");
  const std::string name = wanted != "auto" ? wanted : from_environment != nullptr ? from_environment : "auto";
  if (name == "auto") return sets.front();
  std::string names;
  for (const InstructionSet set : sets) {
    if (name_of(set) == name) return set;
    names += (names.empty() ? "" : ", ") + name_of(set);
  }
  fail(ExitCode::kUsage, "instruction set \"{}\" cannot be used on this processor, in CARILLON_ISA, use one of {}",
       name, names);
}

}  // namespace carillon
