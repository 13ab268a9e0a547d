// Which instructions the kernels of this folder use: found out when the program runs, so that one binary runs on every
// x86-64 and uses what is there.
#pragma once

#include <string>
#include <vector>

namespace carillon {

enum class InstructionSet { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmx };

std::string name_of(InstructionSet set);  // "baseline", "avx2", "avx512", "avx512_bf16", "amx"

// Products of bfloat16 run in hardware.
inline bool multiplies_bfloat16(InstructionSet set) { return set >= InstructionSet::kAvx512Bf16; }

// What this processor can, best first.
std::vector<InstructionSet> available_instruction_sets();

// "auto": the best, or what the environment variable CARILLON_ISA names. Error 64 for a name that is unknown or that
// this processor cannot run, listing those it can.
InstructionSet choose_instruction_set(const std::string& wanted);

}  // namespace carillon
