# The architectures that nvcc of a given version compiles for, and the driver that its programs need. Machine code for
# every supported generation that this nvcc knows (sm_100: from 12.8), and PTX of the newest for later ones: a 12.4
# build runs on a Blackwell through sm_90's PTX, which the driver compiles at the first start. Code for sm_100 also runs
# on sm_103. Drivers: CUDA's release notes, "minor version compatibility": any driver of the same major version will do.
set(CARILLON_OLDEST_NVCC 12.4)

# Sets `architectures`, in the form of CUDA_ARCHITECTURES (empty if the version is too old), and `driver`, the oldest
# Linux driver.
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
