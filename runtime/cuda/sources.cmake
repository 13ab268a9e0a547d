# The sources of libcarillon_cuda.so and of its emulated counterpart (tests/cuda_emulation), as absolute paths.
set(CARILLON_CUDA_SOURCES
  attention/attention.cpp
  attention/attention_backward.cu
  attention/attention_fold.cu
  attention/attention_forward.cu
  attention/attention_general.cu
  attention/attention_fused.cpp
  attention/attention_merge.cu
  attention/attention_state.cu
  ops/adamw.cu
  ops/copies.cpp
  ops/cross_entropy.cu
  ops/dequantize.cu
  ops/dropout.cu
  device_backend.cpp
  ops/elementwise.cpp
  ops/elementwise.cu
  ops/embedding.cu
  attention/fused_attention.cpp
  loader/machine.cpp
  ops/matmul.cpp
  ops/rmsnorm.cu
  ops/rotate.cu
  ops/row_scale.cu
  ops/rows.cpp
  ops/sums.cu
  staged_uploads.cpp
  loader/survey.cpp
  ops/swiglu.cu)
# nvcc contracts a · b + c to a fused operation in one kernel and not in another. Results that two kernels compute must
# have the same bits (swiglu recomputes y in its backward pass; whether packs or single elements are processed depends
# on a tensor's address), and float32 results those of the reference. These ops are bound by memory, not arithmetic;
# attention's kernels call fma explicitly.
set(CARILLON_CUDA_OPS_OPTIONS --fmad=false)
list(TRANSFORM CARILLON_CUDA_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/runtime/cuda/)
# Only with NCCL (the emulation always has it).
set(CARILLON_NCCL_SOURCES
  ${CMAKE_SOURCE_DIR}/parallel/transport/nccl_communicator.cpp
  ${CMAKE_SOURCE_DIR}/parallel/transport/nccl_watchdog.cpp)

# Settings of both targets: own copies of the libraries' objects, and only the symbols of library.h exported.
function(carillon_cuda_library target)
  target_link_libraries(${target} PRIVATE carillon_parallel carillon_runtime)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:carillon_warnings,INTERFACE_COMPILE_OPTIONS>>)
  target_link_options(${target} PRIVATE LINKER:--as-needed LINKER:--exclude-libs,ALL LINKER:-z,defs)
  set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} CXX_VISIBILITY_PRESET hidden
    CUDA_VISIBILITY_PRESET hidden)
endfunction()
