// The file that `carillon bench` writes and `carillon plan` reads, and the built-in profiles.
#include "launch/machine/machine_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

MachineProfile example() {
  MachineProfile profile;
  profile.name = "this";
  profile.processor = "AMD \"EPYC\" \xc3\xa9";
  profile.instruction_set = "avx512";
  profile.threads = 3;
  profile.ranks_per_node = 5;
  profile.memory_bytes = 7;
  profile.host_memory_bytes = int64_t{1} << 50;
  profile.library_bytes = 11;
  profile.products[DType::kFloat32] = {{512, 576, 1536, 1e11 / 3}, {4096, 4096, 4096, 2e11}};
  profile.products[DType::kFloat64] = {{512, 576, 576, 5e10}};
  profile.attention[DType::kBFloat16] = {{64, 512, 1e10, 2e10}, {64, 8192, 3e10, 4e10}, {128, 512, 5e10, 6e10}};
  profile.memory_bytes_per_second = 1.0 / 3;
  profile.op_seconds = 1e-6 / 7;
  profile.within_node = {13, 14e-7};
  profile.between_nodes = {15, 16e-7};
  profile.host = {17, 18e-7};
  profile.disk_write_bytes_per_second = 19;
  profile.disk_read_bytes_per_second = 20;
  profile.peak_flops_per_second = {{DType::kFloat32, 4e11}};
  profile.peak_memory_bytes_per_second = 2.0 / 3;
  profile.peak_source = "a \"data sheet\"";
  profile.to_device_bytes_per_second = 21;
  profile.to_host_bytes_per_second = 22;
  profile.messages = {{"shift", "node", 4, {{8, 1e-6}, {int64_t{1} << 33, 1.0 / 7}}, {23, 24e-7}}};
  profile.pairs = {{0, 3, false, {25, 26e-7}}, {3, 7, true, {27, 28e-7}}};
  return profile;
}

// The exit code and the message that load_machine_profile() throws.
std::pair<ExitCode, std::string> refusal(const std::string& name) {
  try {
    (void)load_machine_profile(name);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ExitCode::kDone, "not refused"};
}

TEST(MachineProfile, ComesBackFromItsFileAsItWas) {
  const TemporaryFolder folder;
  const std::string path = folder / "new/folder/profile.json";

  write_machine_profile(example(), path);
  const MachineProfile read = load_machine_profile(path);

  EXPECT_EQ(machine_profile_json(read), machine_profile_json(example()));
  EXPECT_EQ(read.processor, example().processor);
  EXPECT_EQ(read.products.at(DType::kFloat32)[0].flops_per_second, 1e11 / 3);
  EXPECT_EQ(read.attention.at(DType::kBFloat16)[2].backward_flops_per_second, 6e10);
  EXPECT_EQ(read.op_seconds, 1e-6 / 7);
  EXPECT_EQ(read.host.latency_seconds, 18e-7);
  EXPECT_EQ(read.peak_flops_per_second, example().peak_flops_per_second);
  EXPECT_EQ(read.messages.at(0).seconds, example().messages[0].seconds);
  EXPECT_TRUE(read.pairs.at(1).between_nodes);
  EXPECT_EQ(read.pairs.at(1).link.latency_seconds, 28e-7);
}

TEST(MachineProfile, SaysWhichShareOfThePeakEachRateIs) {
  const std::string json = machine_profile_json(example());
  EXPECT_THAT(json, HasSubstr("\"share_of_peak\": 0.5"));         // 2e11 of 4e11
  EXPECT_THAT(json, HasSubstr("\"memory_share_of_peak\": 0.5"));  // a third of two thirds
  EXPECT_THAT(json, Not(HasSubstr("forward_share_of_peak")));     // no peak is known for bfloat16
}

// Files written before peaks, messages and pairs existed.
TEST(MachineProfile, AnOlderFileIsReadWithoutWhatItLacks) {
  std::string text = machine_profile_json(example());
  text = text.substr(0, text.find(",\n  \"peak_flops_per_second\"")) + "\n}\n";
  const MachineProfile old = parse_machine_profile(text, "old.json");
  EXPECT_EQ(old.disk_read_bytes_per_second, 20);
  EXPECT_TRUE(old.pairs.empty() && old.messages.empty() && old.peak_flops_per_second.empty());
}

TEST(MachineProfile, FindsTheNearestShapeByRatios) {
  const MachineProfile profile = example();
  EXPECT_EQ(profile.product_rate(DType::kFloat32, 4096, 4096, 4096), 2e11);
  EXPECT_EQ(profile.product_rate(DType::kFloat32, 1, 1, 1), 1e11 / 3);
  EXPECT_EQ(profile.product_rate(DType::kFloat32, 2048, 2048, 2048), 2e11);
  EXPECT_EQ(profile.product_rate(DType::kFloat32, 600, 576, 2048), 1e11 / 3);
  EXPECT_EQ(profile.product_rate(DType::kBFloat16, 512, 576, 1536), 0) << "not measured in this type";
  // 2048 is halfway between 512 and 8192 on a log scale: the first of two equally near entries is used.
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 64, 2048, false), 1e10);
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 64, 2049, true), 4e10);
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 256, 600, true), 6e10);
  EXPECT_EQ(profile.attention_rate(DType::kFloat32, 64, 512, false), 0);
}

TEST(MachineProfile, AttentionHasARateForEachEngine) {
  MachineProfile profile = example();
  profile.attention[DType::kBFloat16] = {{64, 2048, 1e10, 2e10, "native"}, {128, 8192, 3e10, 4e10, "cudnn"}};
  profile = parse_machine_profile(machine_profile_json(profile), "engines.json");
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 128, 8192, false, "native"), 1e10);
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 64, 2048, true, "cudnn"), 4e10);
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 64, 2048, true), 2e10);
  profile.attention[DType::kBFloat16].pop_back();
  EXPECT_FALSE(profile.has_attention_of(DType::kBFloat16, "cudnn"));
  EXPECT_EQ(profile.attention_rate(DType::kBFloat16, 128, 8192, true, "cudnn"), 2e10) << "any is better than none";
}

TEST(MachineProfile, TheBuiltInOnesAreWhole) {
  for (const std::string& name : built_in_profiles()) {
    const MachineProfile profile = load_machine_profile(name);
    EXPECT_EQ(profile.name, name);
    EXPECT_EQ(profile.device, "cuda");
    EXPECT_EQ(profile.ranks_per_node, 8);
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      EXPECT_GT(profile.product_rate(dtype, 512, 576, 576), 0) << name;
      EXPECT_GT(profile.attention_rate(dtype, 64, 512, false), profile.attention_rate(dtype, 64, 512, true)) << name;
    }
    for (const Link& link : {profile.within_node, profile.between_nodes, profile.host}) {
      EXPECT_GT(link.bytes_per_second, 0) << name;
      EXPECT_GT(link.latency_seconds, 0) << name;
    }
  }
  EXPECT_NEAR(load_machine_profile("h100-sxm").product_rate(DType::kBFloat16, 8192, 4096, 4096), 643e12, 1e12);
}

TEST(MachineProfile, AnUnknownNameListsThoseThereAre) {
  const auto [code, text] = refusal("h200");
  EXPECT_EQ(code, ExitCode::kUsage);
  for (const char* word : {"h200", "this", "h100-sxm", "a100", "b200"}) EXPECT_THAT(text, HasSubstr(word));
}

TEST(MachineProfile, AMissingFileNamesTheRemedy) {
  const TemporaryFolder folder;
  ASSERT_EQ(setenv("CARILLON_PROFILE", (folder / "mine.json").c_str(), 1), 0);
  for (const std::string& name : {std::string("this"), folder / "other.json"}) {
    const auto [code, text] = refusal(name);
    EXPECT_EQ(code, ExitCode::kMissingInput);
    EXPECT_THAT(text, HasSubstr("carillon bench"));
  }
  EXPECT_THAT(refusal("this").second, HasSubstr("mine.json"));
  write_machine_profile(example(), default_profile_path());
  EXPECT_EQ(load_machine_profile("this").threads, 3);
  unsetenv("CARILLON_PROFILE");
}

TEST(MachineProfile, ADamagedFileIsNamedDownToTheField) {
  const TemporaryFolder folder;
  const std::string good = machine_profile_json(example());
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "machine profile"},
      {good.substr(0, good.size() / 2), "machine profile"},
      {"[1]", "machine profile"},
      {replaced("\"version\": 1", "\"version\": 9"), "version 9"},
      {replaced("\"threads\": 3", "\"threads\": 0"), "threads"},
      {replaced("\"threads\": 3", "\"threads\": \"3\""), "threads"},
      {replaced("\"op_seconds\"", "\"op_second\""), "op_seconds is missing"},
      {replaced("\"rows\": 512", "\"rows\": -512"), "products.float64[0].rows"},
      {replaced("\"float32\"", "\"float31\""), "products.float31"},
      {replaced("\"between_nodes\": false", "\"between_nodes\": 0"), "pairs[0].between_nodes"},
      {replaced("\"seconds\": 1e-06", "\"seconds\": null"), "messages[0].times[0].seconds"},
      {replaced("\"bytes_per_second\": 13.0", "\"bytes_per_second\": -13.0"), "within_node.bytes_per_second"},
  };
  for (const auto& [text, says] : cases) {
    const auto [code, message] = refusal(folder.write("bad.json", text));
    EXPECT_EQ(code, ExitCode::kBadInput) << says;
    EXPECT_THAT(message, HasSubstr(says));
    EXPECT_THAT(message, HasSubstr("bad.json"));
    EXPECT_THAT(message, HasSubstr("carillon bench"));
  }
}

}  // namespace
}  // namespace carillon::testing
