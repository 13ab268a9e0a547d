// Rectangles written without HDF5 lie where HDF5 finds them, and read back the same for all sizes of pieces.
#include "data/checkpoint/tensor_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "data/checkpoint/tensor_hash.h"
#include "parallel/transport/communicator.h"
#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

constexpr int64_t kRows = 9001, kColumns = 1237;  // 42 MiB: more than a thread takes at a time

struct TensorIoTest : ::testing::Test {
  TemporaryFolder folder;
  std::string path = folder / "state.h5";
  std::vector<float> values = std::vector<float>(kRows * kColumns);
  int64_t place = 0;

  TensorIoTest() {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 65521) * 0.25f;
    Hdf5File file = Hdf5File::create(path);
    file.create_dataset({"model/small", StoredType::kBFloat16, {3}});
    file.create_dataset({"model/large", StoredType::kFloat32, {kRows, kColumns}});
    place = file.place_of("model/large").value();
    file.close();
  }
  std::vector<float> packed(const Rectangle& r) const {
    std::vector<float> part;
    for (int64_t row = r.offset[0]; row < r.offset[0] + r.extent[0]; ++row)
      for (int64_t column = r.offset[1]; column < r.offset[1] + r.extent[1]; ++column)
        part.push_back(values[static_cast<size_t>(row * kColumns + column)]);
    return part;
  }
  TensorPart part(const Rectangle& rectangle) const { return {"model/large", StoredType::kFloat32, place, rectangle}; }
  void write(const std::vector<Rectangle>& rectangles, uint64_t& hash) const {
    std::vector<std::vector<float>> memory;
    std::vector<TensorPart> parts;
    for (const Rectangle& rectangle : rectangles) {
      memory.push_back(packed(rectangle));
      parts.push_back(part(rectangle));
      parts.back().from = memory.back().data();
    }
    TensorWriter writer(path);
    writer.write(parts);
    writer.sync();
    hash = 0;
    for (const TensorPart& written : parts) hash += written.hash;
  }
};

TEST_F(TensorIoTest, Hdf5ReadsWhatWasWrittenByRowsAndByColumns) {
  const Rectangle whole = Rectangle::whole({kRows, kColumns});
  const uint64_t expected = hash_rectangle("model/large", whole, values.data(), 4);
  Rectangle top = whole, bottom = whole, left = whole, right = whole;
  top.extent[0] = bottom.offset[0] = 4000;
  bottom.extent[0] = kRows - 4000;
  left.extent[1] = right.offset[1] = 500;
  right.extent[1] = kColumns - 500;
  for (const auto& rectangles : {std::vector{whole}, std::vector{top, bottom}, std::vector{left, right}}) {
    std::filesystem::resize_file(path, static_cast<uint64_t>(place));  // discards the round before
    std::filesystem::resize_file(path, static_cast<uint64_t>(place + 4 * kRows * kColumns));
    uint64_t hash = 0;
    write(rectangles, hash);
    EXPECT_EQ(hash, expected);
    std::vector<float> found(values.size());
    Hdf5File::open(path).read("model/large", whole, found.data());
    EXPECT_EQ(found, values);
    std::vector<TensorPart> parts;
    std::vector<std::vector<double>> memory;
    for (const Rectangle& rectangle : rectangles) {
      memory.emplace_back(static_cast<size_t>(rectangle.count()));
      parts.push_back(part(rectangle));
      parts.back().to = Tensor(memory.back().data(), DType::kFloat64, rectangle.extent);
    }
    read_parts(path, parts);
    uint64_t sum = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      sum += parts[i].hash;
      const std::vector<float> part_of = packed(parts[i].rectangle);
      EXPECT_TRUE(std::equal(part_of.begin(), part_of.end(), memory[i].begin(), memory[i].end()));
    }
    EXPECT_EQ(sum, expected);
  }
}

TEST_F(TensorIoTest, AShortFileIsRefusedByName) {
  std::filesystem::resize_file(path, static_cast<uint64_t>(place + 4 * kRows * kColumns - 1));
  std::vector<TensorPart> parts{part(Rectangle::whole({kRows, kColumns}))};
  try {
    read_parts(path, parts);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("model/large"));
  }
}

}  // namespace
}  // namespace carillon::testing
