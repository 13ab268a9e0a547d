#include "cublasLt.h"

#include <algorithm>
#include <cstring>

#include "host_state.h"
#include "product.h"

using namespace carillon_emulation;

struct cublasLtContext {
  int device;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  std::int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, epilogue = CUBLASLT_EPILOGUE_DEFAULT,
               pointer_mode = CUBLASLT_POINTER_MODE_HOST, bias_type = -1;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  std::uint64_t rows, columns;
  std::int64_t leading;
  std::int32_t batches = 1, order = CUBLASLT_ORDER_COL;
  std::int64_t batch_stride = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
  std::uint64_t workspace = 0;
  std::uint32_t alignment[4] = {256, 256, 256, 256};  // of a, b, c, d, in bytes
};

namespace {

// An algorithm holds the promises under which the heuristic chose it.
struct Algorithm {
  std::uint64_t mark, workspace;
  std::uint32_t alignment[4];
  std::int32_t number;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));
constexpr std::uint64_t kMark = 0x6361726c6c6f6e21;

// The workspace that the heuristic requests, if allowed: large enough to detect its use.
constexpr std::uint64_t kWorkspace = 64 * 1024;
// How much longer a product takes with another algorithm than the fastest: more than a loaded machine adds.
constexpr std::uint64_t kSlower = 60'000'000'000;

template <class T>
cublasStatus_t set(T& member, const void* value, std::size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&member, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

ProductMatrix matrix(const void* data, const cublasLtMatrixLayoutOpaque_t& layout) {
  return {const_cast<void*>(data),
          layout.type,
          static_cast<std::int64_t>(layout.rows),
          static_cast<std::int64_t>(layout.columns),
          layout.leading,
          layout.batch_stride};
}

std::size_t element_bytes(cudaDataType_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

cublasStatus_t check(const cublasLtMatmulDescOpaque_t& description, const cublasLtMatrixLayoutOpaque_t& a,
                     const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& c,
                     const cublasLtMatrixLayoutOpaque_t& d) {
  for (const auto* layout : {&a, &b, &c, &d}) {
    if (layout->rows == 0 || layout->columns == 0 || layout->leading < static_cast<std::int64_t>(layout->rows))
      return CUBLAS_STATUS_INVALID_VALUE;
    if (layout->order != CUBLASLT_ORDER_COL || layout->batches != d.batches) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool ta = description.transpose_a != CUBLAS_OP_N, tb = description.transpose_b != CUBLAS_OP_N;
  if ((ta ? a.columns : a.rows) != d.rows || (tb ? b.rows : b.columns) != d.columns ||
      (ta ? a.rows : a.columns) != (tb ? b.columns : b.rows) || c.rows != d.rows || c.columns != d.columns)
    return CUBLAS_STATUS_INVALID_VALUE;
  // The combinations of cuBLAS's documentation ("cublasLtMatmul()", supported types) that are used here.
  const bool wide = description.compute == CUBLAS_COMPUTE_64F || description.compute == CUBLAS_COMPUTE_64F_PEDANTIC;
  const auto known = [](cudaDataType type) { return type == CUDA_R_32F || type == CUDA_R_16BF; };
  const bool types = wide ? a.type == CUDA_R_64F && d.type == CUDA_R_64F && description.scale == CUDA_R_64F
                          : known(a.type) && known(d.type) && description.scale == CUDA_R_32F &&
                                (a.type == CUDA_R_16BF || d.type == CUDA_R_32F);
  if (!types || a.type != b.type || c.type != d.type || description.pointer_mode != CUBLASLT_POINTER_MODE_HOST)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (description.epilogue != CUBLASLT_EPILOGUE_DEFAULT && description.epilogue != CUBLASLT_EPILOGUE_BIAS)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

// Whether the matrix lies inside one allocation of a device.
bool on_device(const HostState& state, const void* data, const cublasLtMatrixLayoutOpaque_t& layout) {
  const Allocation* allocation = state.allocation_of(data);
  if (!allocation) return false;
  const std::size_t elements =
      static_cast<std::size_t>((layout.batches - 1) * layout.batch_stride +
                               static_cast<std::int64_t>(layout.columns - 1) * layout.leading) +
      layout.rows;
  return static_cast<const char*>(data) + elements * element_bytes(layout.type) <=
         allocation->pointer + allocation->bytes;
}

bool aligned(const void* pointer, std::uint32_t bytes) {
  return bytes == 0 || reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }
std::size_t cublasLtGetVersion() { return 130100; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  cudaError_t error;
  if (!host_state(error)) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext{current_device()};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *description = new cublasLtMatmulDescOpaque_t{compute, scale};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t which,
                                              const void* value, std::size_t bytes) {
  switch (which) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(description->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(description->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(description->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(description->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return set(description->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return set(description->pointer_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
      return CUBLAS_STATUS_SUCCESS;
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t columns, std::int64_t leading) {
  *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, columns, leading};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t which,
                                                const void* value, std::size_t bytes) {
  switch (which) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return set(layout->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return set(layout->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return set(layout->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return set(layout->leading, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return set(layout->batches, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return set(layout->batch_stride, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which, const void* value,
                                                    std::size_t bytes) {
  if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(preference->workspace, value, bytes);
  if (which >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && which <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
    return set(preference->alignment[which - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int asked,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  *returned = 0;
  if (asked < 1) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = check(*description, *a, *b, *c, *d); status != CUBLAS_STATUS_SUCCESS) return status;
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return CUBLAS_STATUS_NOT_INITIALIZED;
  {
    std::lock_guard lock(state->mutex);
    ++state->product_searches;
  }
  if (state->options.products_aligned) {
    const cublasLtMatrixLayoutOpaque_t* layouts[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i)
      if (layouts[i]->type == CUDA_R_16BF && (layouts[i]->leading * 2 % 16 != 0 || preference->alignment[i] % 16 != 0))
        return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  Algorithm algorithm{kMark, std::min(preference->workspace, kWorkspace), {}, 0};
  std::copy_n(preference->alignment, 4, algorithm.alignment);
  for (; algorithm.number < std::min(asked, state->options.algorithms); ++algorithm.number) {
    cublasLtMatmulHeuristicResult_t& result = results[algorithm.number];
    result = {};
    std::memcpy(&result.algo, &algorithm, sizeof(algorithm));
    result.workspaceSize = algorithm.workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1;
  }
  *returned = algorithm.number;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* chosen, void* workspace, std::size_t workspace_bytes,
                              cudaStream_t handle_of_stream) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state || !handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (const cublasStatus_t status = check(*description, *a_layout, *b_layout, *c_layout, *d_layout);
      status != CUBLAS_STATUS_SUCCESS)
    return status;
  std::lock_guard lock(state->mutex);
  Algorithm algorithm{};
  if (chosen) {
    std::memcpy(&algorithm, chosen, sizeof(algorithm));
    const void* pointers[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i)
      if (!aligned(pointers[i], algorithm.alignment[i])) {
        report(cudaErrorMisalignedAddress, "cublasLtMatmul: operand %d at %p is not aligned to the %u bytes promised",
               i, pointers[i], algorithm.alignment[i]);
        return CUBLAS_STATUS_INVALID_VALUE;
      }
    if (algorithm.mark != kMark || algorithm.workspace > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    const Allocation* place = state->allocation_of(workspace);
    if (algorithm.workspace > 0 &&
        (!place || static_cast<char*>(workspace) + algorithm.workspace > place->pointer + place->bytes))
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool wide = description->scale == CUDA_R_64F;
  const auto scalar = [wide](const void* value) {
    return wide ? *static_cast<const double*>(value) : static_cast<double>(*static_cast<const float*>(value));
  };
  const double factor = scalar(beta);
  if (!on_device(*state, a, *a_layout) || !on_device(*state, b, *b_layout) || !on_device(*state, d, *d_layout) ||
      (factor != 0 && !on_device(*state, c, *c_layout))) {
    report(cudaErrorIllegalAddress, "cublasLtMatmul: an operand is not inside one device allocation");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const CUstream_st* stream = stream_of(*state, handle_of_stream);
  if (!stream || stream->device != handle->device) return CUBLAS_STATUS_INVALID_VALUE;

  Product product{};
  product.a = matrix(a, *a_layout);
  product.b = matrix(b, *b_layout);
  product.c = matrix(c, *c_layout);
  product.d = matrix(d, *d_layout);
  if (description->epilogue == CUBLASLT_EPILOGUE_BIAS) product.bias = description->bias;
  product.bias_type = description->bias_type < 0 ? d_layout->type : static_cast<cudaDataType_t>(description->bias_type);
  product.transpose_a = description->transpose_a != CUBLAS_OP_N;
  product.transpose_b = description->transpose_b != CUBLAS_OP_N;
  product.wide = wide;
  product.batches = d_layout->batches;
  product.alpha = scalar(alpha);
  product.beta = factor;
  product.workspace = algorithm.workspace > 0 ? workspace : nullptr;
  product.workspace_bytes = algorithm.workspace;
  const bool slow = chosen && algorithm.number != state->options.fastest_algorithm;
  product.delay = slow ? kSlower : 0;
  state->slow_products += slow ? 1 : 0;
  ++state->products;
  const HostTaskCommand command{do_product, 0};
  submit(*state, *stream, CommandKind::kHostTask, &command, sizeof(command), &product, sizeof(product));
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
