# Checks the dependencies between folders (README, "The code"), runtime <- parallel <- model, data <- launch, and which
# folder may use which library. Run by CTest: cmake -DSOURCE=… -P folder_graph.cmake
set(may_runtime runtime)
cmake_minimum_required(VERSION 3.25)
set(may_parallel runtime parallel)
set(may_model runtime parallel model)
set(may_data runtime parallel data)
set(may_launch runtime parallel model data launch)
# A library's header, and the only places that may include it (regular expressions for paths).
set(libraries
  "mpi.h" "^parallel/"
  "hdf5.h" "^data/files/(hdf5_[a-z]+\\.(h|cpp)|libraries\\.cpp)$"
  "dnnl.hpp" "^runtime/cpu/"
  "cblas.h" "^runtime/cpu/"
  "yaml-cpp/" "^launch/"
  "CLI/" "^launch/"
  "sentencepiece" "^data/"
  "oniguruma.h" "^data/"
  "cuda" "^(runtime/cuda/|runtime/(backend|scratch|visible_devices)\\.cpp$|parallel/transport/nccl|launch/(commands/info|machine/built_in_profiles|plan/(counted_ops|counting_backend))\\.cpp$)"
  "cudnn" "^runtime/cuda/attention/cudnn_attention\\.cpp$"
  "nccl.h" "^parallel/transport/nccl_(communicator\\.cpp|watchdog\\.(h|cpp))$"
  "parallel/transport/mpi_native.h" "^(parallel/|data/(files/hdf5_file|checkpoint/checkpoint)\\.cpp$)"
  "gtest/" "^tests/")
set(mistakes "")
foreach(folder runtime parallel model data launch)
  file(GLOB_RECURSE files RELATIVE ${SOURCE} ${SOURCE}/${folder}/*.h ${SOURCE}/${folder}/*.cpp
    ${SOURCE}/${folder}/*.cu)
  foreach(file ${files})
    file(STRINGS ${SOURCE}/${file} lines REGEX "^#include")
    foreach(line ${lines})
      string(REGEX REPLACE "^#include [\"<]([^\">]*)[\">].*" "\\1" header "${line}")
      string(REGEX MATCH "^(runtime|parallel|model|data|launch|tests)/" place "${header}")
      if(place)
        string(REPLACE "/" "" place ${place})
        if(NOT place IN_LIST may_${folder})
          string(APPEND mistakes "  ${file} includes ${header}\n")
        endif()
      endif()
      list(LENGTH libraries count)
      math(EXPR last "${count} - 1")
      foreach(i RANGE 0 ${last} 2)
        math(EXPR next "${i} + 1")
        list(GET libraries ${i} library)
        list(GET libraries ${next} allowed)
        string(FIND "${header}" "${library}" at)
        string(FIND "${header}" "/${library}" inside)
        if((at EQUAL 0 OR inside GREATER -1) AND NOT file MATCHES "${allowed}")
          string(APPEND mistakes "  ${file} includes ${header}, which ${allowed} alone may\n")
        endif()
      endforeach()
    endforeach()
  endforeach()
endforeach()
if(mistakes)
  message(FATAL_ERROR "the arrows between folders are broken:\n${mistakes}")
endif()
