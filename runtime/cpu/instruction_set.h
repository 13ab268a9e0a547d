// The instruction set that the kernels of this folder use. It is detected at run time, so that one binary runs on every
// x86-64 processor and uses the best instructions present.
#pragma once

#include <string>
#include <vector>

namespace carillon {

enum class InstructionSet { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmx };

std::string name_of(InstructionSet set);  // "baseline", "avx2", "avx512", "avx512_bf16", "amx"

// Whether products of bfloat16 run in hardware.
inline bool multiplies_bfloat16(InstructionSet set) { return set >= InstructionSet::kAvx512Bf16; }

// The instruction sets that this processor supports, best first.
std::vector<InstructionSet> available_instruction_sets();

// Returns the instruction set named by `wanted`; for "auto" the one in the environment variable CARILLON_ISA, else the
// best. Throws error 64, listing the supported sets, if the name is unknown or not supported by this processor.
InstructionSet choose_instruction_set(const std::string& wanted);

}  // namespace carillon
