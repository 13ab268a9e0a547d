#include "runtime/cpu/cpu_backend.h"

#include <cblas.h>
#include <sched.h>
#include <dnnl.hpp>

#include <cstdlib>

#include "runtime/processor.h"

namespace carillon {
namespace {

// OMP_NUM_THREADS if set, else the processors this process may run on.
int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    constexpr long kMost = 4096;
    const long threads = std::strtol(text, nullptr, 10);  // the first number of a list with one per nesting level
    if (threads > kMost)
      fail(ExitCode::kUsage, "OMP_NUM_THREADS is {}, in the environment, {} is the most", text, kMost);
    if (threads > 0) return static_cast<int>(threads);
  }
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return 1;
}

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    : instruction_set_(choose_instruction_set(options.instruction_set)),
      threads_(options.threads > 0 ? options.threads : default_threads()),
      few_rows_threads_(threads_) {
  if (options.lower_libraries || std::getenv("CARILLON_ISA") != nullptr) lower_libraries(instruction_set_);
}

CpuBackend::~CpuBackend() = default;

DeviceDescription CpuBackend::describe() const {
  DeviceDescription description;
  description.name = "cpu";
  description.processor = processor_name();
  description.instruction_set = name_of(instruction_set_);
  for (const InstructionSet set : available_instruction_sets()) description.available.push_back(name_of(set));
  description.bfloat16_native = multiplies_bfloat16(instruction_set_);
  description.threads = threads_;
  const dnnl_version_t* version = dnnl_version();
  description.libraries = {{"oneDNN", fmt::format("{}.{}.{}", version->major, version->minor, version->patch)},
                           {"OpenBLAS", openblas_get_config()}};
  return description;
}

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace carillon
