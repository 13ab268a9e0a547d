#include "data/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "data/checkpoint/stored_values.h"
#include "data/formats/hugging_face_folder.h"
#include "data/formats/model_source.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

std::string file_of(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  bytes += header;
  for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

TEST(Safetensors, ReadsWhatIsThere) {
  const TemporaryFolder folder;
  const SafetensorsFile file(
      folder.write("a.safetensors",
                   file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
                           R"("a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},)"
                           R"("none":{"dtype":"F32","shape":[0,3],"data_offsets":[12,12]}}  )",
                           12)));
  ASSERT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.entries().at("a").shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(static_cast<int>(file.bytes_of(file.entries().at("b"))[0]), 4);
}

TEST(Safetensors, HostileFilesAreRefusedByName) {
  struct Bad {
    std::string bytes;
    const char* says;
  };
  const auto entry = [](const char* text, size_t data = 8) { return file_of(text, data); };
  const std::vector<Bad> bad = {
      {"", "too short"},
      {"\x05\0\0\0", "too short"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10), "header would be"},
      {std::string("\x40\0\0\0\0\0\0\0{}", 10), "cut off"},
      {entry("[]"), "not a JSON object"},
      {entry("{\"a\":"), "not valid JSON"},
      {entry("{\"\xff\":1}"), "UTF-8"},
      {entry(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
       "twice"},
      {entry(R"({"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}})"), "dtype"},
      {entry(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"), "size is not its shape"},
      {entry(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"), "-2"},
      {entry(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]}})"),
       "overflows"},
      {entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"), "ends before"},
      {entry(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})"),
       "overlap"},
      {entry(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"), "hole"},
      {entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 12), "its header says"},
      {entry(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7), "its header says"},
      {entry(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})"), "at most 8"},
  };
  for (const Bad& file : bad) {
    const TemporaryFolder folder;
    try {
      SafetensorsFile(folder.write("bad.safetensors", file.bytes));
      ADD_FAILURE() << "accepted: " << file.says;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput);
      EXPECT_THAT(error.what(),
                  ::testing::AllOf(::testing::HasSubstr(file.says), ::testing::HasSubstr("bad.safetensors")));
    }
  }
}

TEST(HuggingFaceFolder, ReadsRectanglesOfShardedFiles) {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  std::string values(48, '\0');
  for (int i = 0; i < 12; ++i) {
    const float value = static_cast<float>(i);
    std::memcpy(values.data() + 4 * i, &value, 4);
  }
  std::string one = file_of(R"({"w":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}})", 0) + values;
  folder.write("model-00001-of-00002.safetensors", one);
  folder.write("model-00002-of-00002.safetensors",
               file_of(R"({"n":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 0) + std::string("\x00\x3e", 2));
  folder.write("model.safetensors.index.json",
               R"({"weight_map":{"w":"model-00001-of-00002.safetensors","n":"model-00002-of-00002.safetensors"}})");
  const auto source = ModelSource::open(folder.path());
  std::vector<double> part(4);
  std::vector<bfloat16> n(1);
  std::vector<NamedShard> shards{{"model/w", {{3, 4}, {1, 2}, {2, 2}}, Tensor::of(part, {2, 2}), true},
                                 {"model/n", Rectangle::whole({1}), Tensor::of(n, {1}), true}};
  source->read(shards);
  EXPECT_EQ(part, (std::vector<double>{6, 7, 10, 11}));
  EXPECT_EQ(static_cast<float>(n[0]), 1.5f);
  shards[0].rectangle = {{4, 4}, {0, 0}, {2, 2}};
  EXPECT_THROW(source->read(shards), Error);
  folder.write("model.safetensors.index.json", R"({"weight_map":{"w":"../secret"}})");
  EXPECT_THROW(ModelSource::open(folder.path()), Error);
  folder.write("model.safetensors.index.json", R"({"weight_map":{"x":"model-00001-of-00002.safetensors"}})");
  EXPECT_THROW(ModelSource::open(folder.path()), Error);
}

TEST(StoredValues, Float16OfEveryBitPattern) {
  EXPECT_EQ(float16_to_float(0x3c00), 1.0f);
  EXPECT_EQ(float16_to_float(0xc000), -2.0f);
  EXPECT_EQ(float16_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(float16_to_float(0x7bff), 65504.0f);
  EXPECT_TRUE(std::isinf(float16_to_float(0x7c00)));
  EXPECT_TRUE(std::isnan(float16_to_float(0x7e00)));
  // Increasing over all positive finite patterns.
  for (uint16_t bits = 1; bits < 0x7c00; ++bits) ASSERT_LT(float16_to_float(bits - 1), float16_to_float(bits));

  for (uint16_t bits = 0; bits < 0x7c00; ++bits) {
    const double value = float16_to_float(bits), next = bits == 0x7bff ? 65536 : float16_to_float(bits + 1);
    ASSERT_EQ(float16_of(value), bits);
    ASSERT_EQ(float16_of(-value), bits | 0x8000);
    const double middle = (value + next) / 2;
    ASSERT_EQ(float16_of(middle), bits + bits % 2) << "ties to even";
    ASSERT_EQ(float16_of(std::nextafter(middle, 0)), bits);
    ASSERT_EQ(float16_of(std::nextafter(middle, 1e9)), bits + 1);
  }
  EXPECT_EQ(float16_of(1e300), 0x7c00);
  EXPECT_EQ(float16_of(-INFINITY), 0xfc00);
  EXPECT_TRUE(std::isnan(float16_to_float(float16_of(NAN))));
}

}  // namespace
}  // namespace carillon::testing
