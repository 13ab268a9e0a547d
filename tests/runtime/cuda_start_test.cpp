// Starting when CUDA lacks something: one clear line and exit code 64. Each case runs in a separate process, because
// the library and its view of the machine persist once loaded. CARILLON_CUDA_EMULATED and, if it was built,
// CARILLON_CUDA_REAL name the libraries.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "runtime/backend.h"
#include "runtime/cuda/loader/library.h"

namespace carillon::testing {
namespace {

const char* path_of(const char* variable) {
  const char* path = std::getenv(variable);
  return path == nullptr || *path == 0 ? nullptr : path;
}

// Handles an error like launch/main.cpp: prints its line and exits with its code. Exits with 0 and prints the name if
// there is a backend.
[[noreturn]] void start(const char* library, const char* emulation, const BackendOptions& options) {
  library == nullptr ? unsetenv("CARILLON_CUDA_LIBRARY") : setenv("CARILLON_CUDA_LIBRARY", library, 1);
  setenv("CARILLON_EMULATION", emulation, 1);
  try {
    const std::string name = make_backend(options)->describe().name;
    std::fprintf(stderr, "runs on %s", name.c_str());
    std::_Exit(0);
  } catch (const Error& error) {
    const std::string line = error.what();
    std::fprintf(stderr, "%s (%s)", line.c_str(), line.find('\n') == std::string::npos ? "one line" : "MANY LINES");
    std::_Exit(static_cast<int>(error.code()));
  }
}

class CudaStart : public ::testing::Test {
 protected:
  void SetUp() override {
    ::testing::FLAGS_gtest_death_test_style = "fast";
    ASSERT_NE(emulated_, nullptr) << "CARILLON_CUDA_EMULATED is not set";
  }
  const char* emulated_ = path_of("CARILLON_CUDA_EMULATED");
};
using CudaStartDeathTest = CudaStart;

BackendOptions cuda(int index = 0) { return {.device = "cuda", .device_index = index}; }

TEST_F(CudaStartDeathTest, WithADevice) {
  EXPECT_EXIT(start(emulated_, "", cuda()), ::testing::ExitedWithCode(0), "runs on cuda");
  EXPECT_EXIT(start(emulated_, "devices=3", cuda(2)), ::testing::ExitedWithCode(0), "runs on cuda");
  EXPECT_EXIT(start(emulated_, "", {.device = "auto"}), ::testing::ExitedWithCode(0), "runs on cuda");
}

TEST_F(CudaStartDeathTest, WithoutTheLibrary) {
  EXPECT_EXIT(start("/nowhere/libcarillon_cuda.so", "", cuda()), ::testing::ExitedWithCode(64),
              "cannot be loaded.*/nowhere/libcarillon_cuda.so.*runtime.device=cpu.*one line");
  EXPECT_EXIT(start(nullptr, "", cuda()), ::testing::ExitedWithCode(64),
              "there is no .*libcarillon_cuda.so.*runtime.device=cpu.*one line");
}

TEST_F(CudaStartDeathTest, WithoutADriver) {
  EXPECT_EXIT(start(emulated_, "driver=none", cuda()), ::testing::ExitedWithCode(64),
              "driver is missing or older.*no driver was found.*runtime.device=cpu.*one line");
  EXPECT_EXIT(start(emulated_, "driver=none", {.device = "auto"}), ::testing::ExitedWithCode(0), "runs on cpu");
}

TEST_F(CudaStartDeathTest, WithTooOldADriver) {
  EXPECT_EXIT(start(emulated_, "driver=old", cuda()), ::testing::ExitedWithCode(64),
              "driver is missing or older.*the driver knows CUDA.*install driver 580 or newer.*one line");
  EXPECT_EXIT(start(emulated_, "driver=old", {.device = "auto"}), ::testing::ExitedWithCode(0), "runs on cpu");
}

TEST_F(CudaStartDeathTest, WithoutADevice) {
  EXPECT_EXIT(start(emulated_, "devices=0", cuda()), ::testing::ExitedWithCode(64), "no CUDA device.*one line");
  EXPECT_EXIT(start(emulated_, "devices=0", {.device = "auto"}), ::testing::ExitedWithCode(0), "runs on cpu");
}

TEST_F(CudaStartDeathTest, WithFewerDevicesThanRanks) {
  EXPECT_EXIT(start(emulated_, "devices=2", cuda(2)), ::testing::ExitedWithCode(64),
              "rank 2 of this node has no device: it has 2 CUDA devices.*at most 2 ranks a node.*one line");
  EXPECT_EXIT(start(emulated_, "devices=1", cuda(1)), ::testing::ExitedWithCode(64),
              "rank 1 .* has 1 CUDA device,.*at most 1 rank a node.*one line");
}

TEST_F(CudaStartDeathTest, WithoutMemory) {
  const auto fill_up = [this] {
    setenv("CARILLON_CUDA_LIBRARY", emulated_, 1);
    setenv("CARILLON_EMULATION", "memory=100", 1);
    try {
      make_backend(cuda())->allocate(size_t{90} << 20);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s", error.what());
      std::_Exit(static_cast<int>(error.code()));
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(fill_up(), ::testing::ExitedWithCode(74),
              "cannot allocate 90 MiB of device memory .*of 100 MiB are free");
}

// The real library. Without a driver, as on the machines that test Carillon, the start is refused; with a driver it
// runs.
TEST_F(CudaStartDeathTest, OfTheRealLibrary) {
  const char* real = path_of("CARILLON_CUDA_REAL");
  if (real == nullptr) GTEST_SKIP() << "libcarillon_cuda.so was not built";
  setenv("CARILLON_CUDA_LIBRARY", real, 1);
  const CudaSurvey survey = survey_cuda();
  ASSERT_EQ(survey.library, real);
  EXPECT_EQ(survey.libraries.front().first, "CUDA runtime");
  if (survey.problem.empty()) {
    EXPECT_EXIT(start(real, "", cuda()), ::testing::ExitedWithCode(0), "runs on cuda");
    return;
  }
  EXPECT_EXIT(start(real, "", cuda()), ::testing::ExitedWithCode(64), "in runtime.device: cuda.*one line");
  EXPECT_EXIT(start(real, "", {.device = "auto"}), ::testing::ExitedWithCode(0), "runs on cpu");
}

}  // namespace
}  // namespace carillon::testing
