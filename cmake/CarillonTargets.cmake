# Helpers for every folder: declare a library, a test, or a script test.

# carillon_library(runtime SOURCES a.cpp b.cpp LINK other libraries [PRECOMPILE headers] [LIGHT])  ->  target carillon_runtime.
# Includes are relative to the repository's root; warnings are errors. PRECOMPILE: slow headers that most of its sources
# include. LIGHT: no code in it runs often, so it is compiled with -O1, which halves its build time.
function(carillon_library name)
  cmake_parse_arguments(ARG "LIGHT" "" "SOURCES;LINK;PRIVATE_LINK;PRECOMPILE" ${ARGN})
  add_library(carillon_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(carillon_${name} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK} carillon_warnings)
  if(ARG_PRECOMPILE)
    target_precompile_headers(carillon_${name} PRIVATE ${ARG_PRECOMPILE})
  endif()
  if(ARG_LIGHT)
    target_compile_options(carillon_${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  target_include_directories(carillon_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  set_target_properties(carillon_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# The slow headers that most sources above runtime include: 2.5 s of the 3 s for each source.
set(CARILLON_SLOW_HEADERS <fmt/format.h> <nlohmann/json.hpp> <algorithm> <filesystem> <functional> <map> <memory>
  <optional> <string> <utility> <variant> <vector>)

# Builds everything that the tests labelled `fast` need; together they pass within two minutes.
add_custom_target(fast_tests)

# The environment of every test's ranks. It allows root, as in containers, and selects the transport that Open MPI would
# choose for ranks on one machine. Without it each start waits 0.2 s for an InfiniPath network, and hwloc loads plugins
# that look for displays (a third of the work of a start).
set(CARILLON_MPI_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_pml=ob1
  HWLOC_PLUGINS_PATH=/dev/null)

# carillon_test(runtime_tensor SOURCES tensor_test.cpp LINK carillon_runtime [SLOW] [RANKS n] [LABELS long] [TIMEOUT s]
#   [COST s])
# RANKS n runs it under mpirun with a main that starts MPI. Without it the test is one process without MPI, labelled
# `fast` unless it is SLOW. COST: the seconds it takes, if many; such tests start first, so that none runs alone at the
# end.
function(carillon_test name)
  cmake_parse_arguments(ARG "SLOW" "RANKS;TIMEOUT;COST" "SOURCES;LINK;LABELS;ENVIRONMENT" ${ARGN})
  # Passive: threads of a test that wait for each other leave the core to another test.
  set(test_environment OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive ${ARG_ENVIRONMENT})
  add_executable(${name}_test ${ARG_SOURCES})
  if(ARG_RANKS)
    target_link_libraries(${name}_test PRIVATE ${ARG_LINK} carillon_mpi_test_main carillon_warnings)
    add_test(NAME ${name} COMMAND ${MPIEXEC_EXECUTABLE} -n ${ARG_RANKS} --oversubscribe --bind-to none
      --mca mpi_yield_when_idle 1 $<TARGET_FILE:${name}_test>)
    list(APPEND test_environment ${CARILLON_MPI_ENVIRONMENT})
    set_tests_properties(${name} PROPERTIES PROCESSORS 2)
  else()
    target_link_libraries(${name}_test PRIVATE ${ARG_LINK} GTest::gtest_main GTest::gmock carillon_warnings)
    add_test(NAME ${name} COMMAND ${name}_test)
    if(NOT ARG_SLOW)
      list(APPEND ARG_LABELS fast)
      add_dependencies(fast_tests ${name}_test)
    endif()
  endif()
  target_include_directories(${name}_test PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O1>)
  # Precompiled headers require the same flags and macros, so the emulation's own tests cannot use them.
  if(ARG_LINK MATCHES "carillon_(runtime|parallel|model|data|launch|test)")
    target_compile_definitions(${name}_test PRIVATE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
    target_precompile_headers(${name}_test REUSE_FROM carillon_test_headers)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 900)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "${test_environment}"
    SKIP_REGULAR_EXPRESSION "ALL TESTS SKIPPED")
  if(ARG_COST)
    set_tests_properties(${name} PROPERTIES COST ${ARG_COST})
  endif()
  if(ARG_LABELS)
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}")
  endif()
endfunction()

# carillon_script_test(golden_score COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/score_test.sh ...): a black-box test of the
# built program, whose path is in CARILLON. It runs alone on the machine unless BESIDE allows it to run with others,
# which a test may do if it measures no times and depends on no timing. Such tests mostly wait, so tests/run.sh starts
# three on two cores.
function(carillon_script_test name)
  cmake_parse_arguments(ARG "BESIDE" "TIMEOUT;COST" "COMMAND;LABELS" ${ARGN})
  add_test(NAME ${name} COMMAND ${ARG_COMMAND})
  set(alone TRUE)
  if(ARG_BESIDE)
    set(alone FALSE)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 900)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} RUN_SERIAL ${alone} SKIP_RETURN_CODE 77 ENVIRONMENT
    "CARILLON=$<TARGET_FILE:carillon>;${CARILLON_MPI_ENVIRONMENT};OMP_NUM_THREADS=1;PYTHON=${CARILLON_TEST_PYTHON};SOURCE=${CMAKE_SOURCE_DIR}")
  if(ARG_COST)
    set_tests_properties(${name} PROPERTIES COST ${ARG_COST})
  endif()
  if(ARG_LABELS)
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}")
  endif()
endfunction()

# Warnings are errors only with g++: clang, which builds tests/fuzz, gives other warnings.
# -Wno-stringop-overflow, -Wno-stringop-overread, -Wno-restrict, -Wno-array-bounds: g++ 12 reports them inside fmt 9 and std::string at -O3 (known false positives).
add_library(carillon_warnings INTERFACE)
target_compile_options(carillon_warnings INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers "$<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow;-Wno-stringop-overread;-Wno-restrict;-Wno-array-bounds;-Werror>")
