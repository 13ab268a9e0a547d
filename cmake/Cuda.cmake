# CARILLON_CUDA=auto|on|off: whether libcarillon_cuda.so is built. It needs the CUDA toolkit (nvcc, cuBLASLt) and NCCL;
# no GPU and no driver. auto: where all of it is found. Sets CARILLON_CUDA_BUILT, CARILLON_CUDA_LIBRARIES,
# CARILLON_CUDA_INCLUDE_DIRS.
set(CARILLON_CUDA_BUILT OFF)
if(NOT CARILLON_CUDA MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "CARILLON_CUDA is \"${CARILLON_CUDA}\": auto, on or off")
endif()
if(CARILLON_CUDA STREQUAL off)
  return()
endif()

find_program(CARILLON_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin
  DOC "The CUDA compiler")
if(CARILLON_NVCC)
  get_filename_component(toolkit ${CARILLON_NVCC} REALPATH)
  get_filename_component(toolkit ${toolkit} DIRECTORY)
  get_filename_component(toolkit ${toolkit} DIRECTORY)
  set(places HINTS ${toolkit} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib)
  find_library(CARILLON_CUBLASLT cublasLt ${places})
  find_library(CARILLON_NCCL nccl ${places})
  find_path(CARILLON_CUBLASLT_INCLUDE cublasLt.h HINTS ${toolkit} PATH_SUFFIXES include targets/x86_64-linux/include)
  find_path(CARILLON_NCCL_INCLUDE nccl.h HINTS ${toolkit} PATH_SUFFIXES include)
endif()
set(missing "")
foreach(part "nvcc CARILLON_NVCC" "cuBLASLt CARILLON_CUBLASLT" "cublasLt.h CARILLON_CUBLASLT_INCLUDE"
    "NCCL CARILLON_NCCL" "nccl.h CARILLON_NCCL_INCLUDE")
  separate_arguments(part)
  list(GET part 0 name)
  list(GET part 1 variable)
  if(NOT ${variable})
    list(APPEND missing ${name})
  endif()
endforeach()
if(missing)
  list(JOIN missing ", " missing)
  if(CARILLON_CUDA STREQUAL on)
    message(FATAL_ERROR "CARILLON_CUDA=on, but not found: ${missing}. Install the CUDA toolkit with NCCL, set "
      "CUDA_HOME to where it is (or CARILLON_NVCC, CARILLON_CUBLASLT, CARILLON_NCCL one by one), or use "
      "-DCARILLON_CUDA=off")
  endif()
  message(STATUS "CUDA backend: not built (not found: ${missing})")
  return()
endif()

set(CMAKE_CUDA_COMPILER ${CARILLON_NVCC})
set(CMAKE_CUDA_ARCHITECTURES OFF)  # each target has its own
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know yet that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CARILLON_CUDA_LIBRARIES ${CARILLON_CUBLASLT} ${CARILLON_NCCL})
set(CARILLON_CUDA_INCLUDE_DIRS ${CARILLON_CUBLASLT_INCLUDE} ${CARILLON_NCCL_INCLUDE})
list(REMOVE_DUPLICATES CARILLON_CUDA_INCLUDE_DIRS)
set(CARILLON_CUDA_BUILT ON)
message(STATUS "CUDA backend: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, ${CARILLON_CUBLASLT}, ${CARILLON_NCCL}")
