# What libcarillon_cuda.so is made of, and its emulated twin (tests/cuda_emulation) too: absolute paths.
set(CARILLON_CUDA_SOURCES
  attention.cpp
  attention_backward.cu
  attention_forward.cu
  attention_general.cu
  attention_fused.cpp
  attention_merge.cu
  attention_state.cu
  adamw.cu
  copies.cpp
  cross_entropy.cu
  device_backend.cpp
  elementwise.cpp
  elementwise.cu
  embedding.cu
  fused_attention.cpp
  machine.cpp
  matmul.cpp
  rmsnorm.cu
  rotate.cu
  rows.cpp
  sums.cu
  survey.cpp
  swiglu.cu)
list(TRANSFORM CARILLON_CUDA_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/runtime/cuda/)
# Where there is NCCL (the emulation has it always).
set(CARILLON_NCCL_SOURCES
  ${CMAKE_SOURCE_DIR}/parallel/nccl_communicator.cpp
  ${CMAKE_SOURCE_DIR}/parallel/nccl_watchdog.cpp)

# What both targets have in common: own copies of the libraries' objects, nothing exported but what library.h names.
function(carillon_cuda_library target)
  target_link_libraries(${target} PRIVATE carillon_parallel carillon_runtime)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:carillon_warnings,INTERFACE_COMPILE_OPTIONS>>)
  target_link_options(${target} PRIVATE LINKER:--as-needed LINKER:--exclude-libs,ALL LINKER:-z,defs)
  set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} CXX_VISIBILITY_PRESET hidden
    CUDA_VISIBILITY_PRESET hidden)
endfunction()
