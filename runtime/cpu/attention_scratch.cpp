#include "runtime/cpu/attention_scratch.h"

#include <algorithm>

namespace carillon {

void CpuBackend::ScratchDeleter::operator()(Scratch* scratch) const { delete scratch; }
CpuBackend::Scratch& CpuBackend::scratch() {
  if (!scratch_) {
    scratch_.reset(new Scratch);
    scratch_->threads = std::vector<Scratch::Thread>(static_cast<size_t>(threads_));
    scratch_->progress = std::vector<Progress>(static_cast<size_t>(threads_));
    scratch_->heads = std::vector<Scratch::Head>(static_cast<size_t>(threads_));
  }
  return *scratch_;
}

void find_visible(const AttentionMask& mask, int threads, std::vector<cpu::Visible>& visible) {
  const int64_t batch = mask.first.size(0), rows = mask.first.size(1), keys = mask.key_index.size(0);
  const int64_t* key = mask.key_index.data<int64_t>();
  const int64_t* query = mask.query_index.data<int64_t>();
  CHECK(mask.key_index.packed() && mask.query_index.packed(), "indices are packed");
  visible.resize(static_cast<size_t>(batch * rows));
  constexpr int64_t kWorthAThread = 4096;
#pragma omp parallel for schedule(static) num_threads(threads) if (batch * rows > kWorthAThread)
  for (int64_t n = 0; n < batch * rows; ++n) {
    const int64_t b = n / rows, i = n % rows;
    const int64_t first = mask.first.data<int64_t>()[b * mask.first.stride(0) + i * mask.first.stride(1)];
    visible[static_cast<size_t>(n)] = {std::lower_bound(key, key + keys, first) - key,
                                       std::upper_bound(key, key + keys, query[i]) - key};
  }
}

}  // namespace carillon
