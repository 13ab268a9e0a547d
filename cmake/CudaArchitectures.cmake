# What nvcc of a version is asked to compile for, and the driver that its programs need. Real code for every generation
# Carillon is made for that this nvcc knows (sm_100: from 12.8), and PTX of the last for those to come: a 12.4 build
# runs on a Blackwell by way of sm_90's PTX, which the driver compiles at the first start. Code for sm_100 also runs on
# sm_103. Drivers: CUDA's release notes, "minor version compatibility": within a major version any driver of it will do.
set(CARILLON_OLDEST_NVCC 12.4)

# architectures: as CUDA_ARCHITECTURES, empty where the version is too old. driver: Linux, at least.
function(carillon_cuda_architectures version architectures driver)
  if(version VERSION_LESS CARILLON_OLDEST_NVCC)
    set(${architectures} "" PARENT_SCOPE)
  elseif(version VERSION_LESS 12.8)
    set(${architectures} "80-real;90" PARENT_SCOPE)
  else()
    set(${architectures} "80-real;90-real;100" PARENT_SCOPE)
  endif()
  if(version VERSION_LESS 13)
    set(${driver} 525 PARENT_SCOPE)
  else()
    set(${driver} 580 PARENT_SCOPE)
  endif()
endfunction()
