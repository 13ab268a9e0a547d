# All libraries that Carillon uses, all from Debian (tests/run.sh installs them); each is used by one folder only (see
# README, "The code").
find_package(MPI REQUIRED COMPONENTS C)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5-openmpi)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(ONIGURUMA REQUIRED IMPORTED_TARGET oniguruma)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
# oneDNN is located by hand, because Debian's dnnl-config.cmake requires OpenCL headers that its own package does not
# need.
find_library(DNNL_LIBRARY dnnl REQUIRED)
find_path(DNNL_INCLUDE_DIR dnnl.hpp PATH_SUFFIXES oneapi/dnnl REQUIRED)
add_library(DNNL::dnnl INTERFACE IMPORTED)
target_link_libraries(DNNL::dnnl INTERFACE ${DNNL_LIBRARY})
if(CARILLON_TESTS)
  find_package(GTest REQUIRED)
endif()
if(CARILLON_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

# The Python of the oracle tests (h5py, transformers). Tests whose packages it lacks are reported as skipped.
find_program(CARILLON_TEST_PYTHON NAMES python3 DOC "Python with the packages of tests/requirements.txt")
