// Peaks, of which rates are given as shares. The table's values are compared with a second derivation: units times
// clock, with the boost clocks from the same data sheets.
#include "runtime/cuda/loader/device_peak.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace carillon::testing {
namespace {

struct Known {
  CudaFigures figures;
  double bfloat16, float32, memory;  // from the data sheet
};

CudaFigures device(const char* name, int major, int minor, int multiprocessors, double mhz, double memory_mhz,
                   int bits) {
  return {name, major, minor, multiprocessors, mhz * 1e6, memory_mhz * 1e6, bits};
}

const Known kKnown[] = {
    {device("NVIDIA A100-SXM4-80GB", 8, 0, 108, 1410, 1593, 5120), 312e12, 19.5e12, 2039e9},
    {device("NVIDIA A100-SXM4-40GB", 8, 0, 108, 1410, 1215, 5120), 312e12, 19.5e12, 1555e9},
    {device("NVIDIA H100 80GB HBM3", 9, 0, 132, 1830, 2619, 5120), 989.4e12, 67e12, 3350e9},
    {device("NVIDIA H200", 9, 0, 132, 1830, 3201, 6144), 989.4e12, 67e12, 4800e9},
    {device("NVIDIA B200", 10, 0, 148, 1850, 3996, 8192), 2250e12, 80e12, 8000e9},
    {device("NVIDIA L40S", 8, 9, 142, 2520, 9001, 384), 362e12, 91.6e12, 864e9},
    {device("NVIDIA GeForce RTX 4090", 8, 9, 128, 2520, 10501, 384), 165.2e12, 82.6e12, 1008e9},
};

TEST(DevicePeak, KnownDevicesHaveTheirDataSheets) {
  for (const Known& known : kKnown) {
    const DevicePeak peak = device_peak(known.figures);
    EXPECT_EQ(peak.flops_per_second.at(DType::kBFloat16), known.bfloat16) << known.figures.name;
    EXPECT_EQ(peak.flops_per_second.at(DType::kFloat32), known.float32) << known.figures.name;
    EXPECT_EQ(peak.memory_bytes_per_second, known.memory) << known.figures.name;
    EXPECT_THAT(peak.source, ::testing::HasSubstr("data sheet"));
  }
}

TEST(DevicePeak, CountingUnitsComesToTheSame) {
  for (const Known& known : kKnown) {
    CudaFigures nameless = known.figures;
    nameless.name =
        nameless.name.find("GeForce") == std::string::npos ? "NVIDIA something" : "NVIDIA GeForce something";
    const DevicePeak peak = device_peak(nameless);
    EXPECT_NEAR(peak.flops_per_second.at(DType::kBFloat16) / known.bfloat16, 1, 0.03) << known.figures.name;
    EXPECT_NEAR(peak.flops_per_second.at(DType::kFloat32) / known.float32, 1, 0.13) << known.figures.name;
    EXPECT_NEAR(peak.memory_bytes_per_second / known.memory, 1, 0.03) << known.figures.name;
    EXPECT_THAT(peak.source, ::testing::HasSubstr("multiprocessors at"));
  }
}

TEST(DevicePeak, APartOfADeviceIsNotTheWhole) {
  const DevicePeak part = device_peak(device("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 8, 0, 14, 1410, 1593, 640));
  EXPECT_NEAR(part.flops_per_second.at(DType::kBFloat16), 312e12 * 14 / 108, 1e12);
}

TEST(DevicePeak, AnUnknownArchitectureHasNone) {
  const DevicePeak peak = device_peak(device("NVIDIA Later", 17, 0, 200, 2000, 4000, 8192));
  EXPECT_TRUE(peak.flops_per_second.empty());
  EXPECT_EQ(peak.memory_bytes_per_second, 8192e9);
  EXPECT_EQ(device_peak({}).memory_bytes_per_second, 0);
}

}  // namespace
}  // namespace carillon::testing
