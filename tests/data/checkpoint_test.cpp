// Checkpoints: every layout reads what any other wrote, and no damaged byte is loaded silently.
#include "data/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "parallel/transport/thread_communicator.h"
#include "runtime/rng.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

namespace fs = std::filesystem;

const std::vector<std::pair<std::string, std::vector<int64_t>>> kTensors = {
    {"model/a.weight", {13, 6}}, {"model/norm.weight", {7}}, {"optimizer/exp_avg/a.weight", {13, 6}}};

double value(const std::string& name, int64_t index) {
  return random_normal(3, stream_of(name), static_cast<uint64_t>(index));
}

// Rows (or columns, if `columns`) of each tensor, divided over the ranks.
struct Parts {
  std::vector<std::vector<float>> memory;
  std::vector<NamedShard> shards;

  Parts(int ranks, int rank, bool columns, bool filled, bool replicas = false) {
    memory.reserve(8);
    for (const auto& [name, shape] : kTensors) {
      Rectangle rectangle = Rectangle::whole(shape);
      const size_t dim = columns && shape.size() == 2 ? 1 : 0;
      if (!replicas) {
        const Range range = share_of(shape[dim], ranks, rank);
        rectangle.offset[dim] = range.begin;
        rectangle.extent[dim] = range.size();
      }
      std::vector<float> data(static_cast<size_t>(rectangle.count()));
      const int64_t width = shape.size() == 2 ? rectangle.extent[1] : 1;
      for (size_t i = 0; i < data.size() && filled; ++i)
        data[i] = static_cast<float>(value(name, index(rectangle, i, width)));
      memory.push_back(std::move(data));
      shards.push_back(
          {name, rectangle, Tensor(memory.back().data(), DType::kFloat32, rectangle.extent), !replicas || rank == 0});
    }
  }
  static int64_t index(const Rectangle& rectangle, size_t i, int64_t width) {
    const int64_t row = static_cast<int64_t>(i) / width, column = static_cast<int64_t>(i) % width;
    const bool matrix = rectangle.extent.size() == 2;
    return (rectangle.offset[0] + row) * (matrix ? rectangle.global_shape[1] : 1) + (matrix ? rectangle.offset[1] : 0) +
           column;
  }
  void expect_right() const {
    for (size_t s = 0; s < shards.size(); ++s) {
      const Rectangle& rectangle = shards[s].rectangle;
      const int64_t width = rectangle.extent.size() == 2 ? rectangle.extent[1] : 1;
      for (size_t i = 0; i < memory[s].size(); ++i)
        ASSERT_EQ(memory[s][i], static_cast<float>(value(shards[s].name, index(rectangle, i, width))))
            << shards[s].name;
    }
  }
};

Manifest manifest_of(int64_t step) {
  Manifest manifest;
  manifest.step = step;
  manifest.data = {{"step", step}};
  manifest.config = {{"model", {{"vocab_size", 13}}}};
  return manifest;
}

void save(const std::string& folder, int64_t step, int ranks = 1, bool columns = false, int64_t keep = 10) {
  run_ranks(ranks, [&](std::unique_ptr<Communicator> world) {
    Parts parts(ranks, world->rank(), columns, true);
    EXPECT_TRUE(save_checkpoint(*world, folder, manifest_of(step), parts.shards, keep).saved);
  });
}

TEST(Checkpoint, AnySplitReadsWhatAnyOtherWrote) {
  std::vector<std::string> hashes;
  for (const int writers : {1, 2, 4})
    for (const bool by_columns : {false, true}) {
      const TemporaryFolder folder;
      save(folder.path(), 5, writers, by_columns);
      const std::string path = folder / "step-00000005";
      const Manifest manifest = read_manifest(path);
      hashes.push_back(manifest.tensors.at("model/a.weight").hash);
      EXPECT_EQ(hashes.back(), hashes.front()) << "the hash does not depend on who wrote which part";
      for (const int readers : {1, 3})
        for (const bool replicas : {false, true})
          run_ranks(readers, [&](std::unique_ptr<Communicator> world) {
            Parts parts(readers, world->rank(), !by_columns, false, replicas);
            load_checkpoint(*world, path, parts.shards);
            parts.expect_right();
          });
    }
}

// Only bytes that the format leaves unused may change unnoticed; the loaded values must then still be right.
TEST(Checkpoint, NoDamagedByteIsLoadedInSilence) {
  const TemporaryFolder folder;
  save(folder.path(), 5);
  const std::string path = folder / "step-00000005";
  for (const char* name : {"/state.h5", "/manifest.json"}) {
    const std::string whole = read_whole(path + name);
    int refused = 0, harmless = 0;
    const size_t step = whole.size() > 4096 ? 7 : 1;
    for (size_t at = 0; at < whole.size(); at += step) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
      std::ofstream(path + name, std::ios::binary) << damaged;
      Parts parts(1, 0, false, false);
      try {
        load_checkpoint(*solo_communicator("world"), path, parts.shards);
        parts.expect_right();
        ++harmless;
      } catch (const Error& error) {
        ASSERT_TRUE(error.code() == ExitCode::kBadInput || error.code() == ExitCode::kUsage) << error.what();
        ++refused;
      }
    }
    for (size_t length = 0; length < whole.size(); length += whole.size() / 23 + 1) {
      std::ofstream(path + name, std::ios::binary) << whole.substr(0, length);
      EXPECT_THROW(verify_checkpoint(path), Error) << name << " cut to " << length;
    }
    std::ofstream(path + name, std::ios::binary) << whole;
    if (std::string(name) == "/manifest.json") {
      EXPECT_EQ(harmless, 0) << "every byte of the manifest counts";
    }
    EXPECT_GT(refused, 0);
  }
  verify_checkpoint(path);
}

TEST(Checkpoint, KeepsTheNewestAndNeverFewerThanTwoValidOnes) {
  const TemporaryFolder folder;
  for (int64_t step = 1; step <= 4; ++step) save(folder.path(), step, 1, false, 3);
  std::vector<int64_t> steps;
  for (const auto& found : list_checkpoints(folder.path())) steps.push_back(found.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{4, 3, 2}));
  // The newest one is damaged and does not count: with keep 1, two valid ones remain next to it.
  std::ofstream(folder / "step-00000004/manifest.json") << "{}";
  save(folder.path(), 5, 1, false, 1);
  steps.clear();
  for (const auto& found : list_checkpoints(folder.path())) steps.push_back(found.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{5, 4, 3}));
  EXPECT_EQ(read_whole(folder / "latest"), "step-00000005\n");
}

TEST(Checkpoint, TheNewestWholeOneIsFoundAndOthersAreNamed) {
  const TemporaryFolder folder;
  for (int64_t step = 1; step <= 3; ++step) save(folder.path(), step);
  std::string state = read_whole(folder / "step-00000003/state.h5");
  const float first = static_cast<float>(value("model/a.weight", 0));
  const size_t payload = state.find(std::string(reinterpret_cast<const char*>(&first), 4));
  ASSERT_NE(payload, std::string::npos);
  state[payload] ^= 1;
  std::ofstream(folder / "step-00000003/state.h5", std::ios::binary) << state;
  std::vector<std::string> notices;
  EXPECT_EQ(newest_valid_checkpoint(folder.path(), [&](const std::string& text) { notices.push_back(text); }),
            folder / "step-00000002");
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_THAT(notices[0],
              ::testing::AllOf(::testing::HasSubstr("step-00000003"), ::testing::HasSubstr("model/a.weight")));
  fs::rename(folder / "step-00000002", folder / "step-00000007");
  EXPECT_THROW(verify_checkpoint(folder / "step-00000007"), Error) << "the manifest's step is not the folder's";
}

TEST(Checkpoint, ASaveThatDiesLeavesTheOlderOnes) {
  for (const char* point : {"folder_made", "tensors_written", "tensors_synced", "manifest_written", "committed"}) {
    const TemporaryFolder folder;
    save(folder.path(), 1);
    EXPECT_EXIT(
        {
          setenv("CARILLON_TEST_FAIL", point, 1);
          save(folder.path(), 2);
        },
        ::testing::KilledBySignal(SIGKILL), "")
        << point;
    const std::string newest = newest_valid_checkpoint(folder.path(), [](const std::string&) {});
    EXPECT_EQ(newest, folder / (std::string(point) == "committed" ? "step-00000002" : "step-00000001")) << point;
    save(folder.path(), 3);
    for (const auto& entry : fs::directory_iterator(folder.path()))
      EXPECT_FALSE(entry.path().filename().string().starts_with(".tmp")) << "left behind";
  }
}

// A file-size limit acts as a quota: nothing is saved, the reason is given, no trace is left, and the older checkpoints
// are unchanged.
TEST(Checkpoint, ASaveWithoutSpaceIsLeftOut) {
  for (const int ranks : {1, 3}) {
    const TemporaryFolder folder;
    save(folder.path(), 1, ranks);
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit small{100, before.rlim_max};  // too small even for the metadata of state.h5
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    run_ranks(ranks, [&](std::unique_ptr<Communicator> world) {
      Parts parts(ranks, world->rank(), false, true);
      const SaveResult result = save_checkpoint(*world, folder.path(), manifest_of(2), parts.shards, 10);
      EXPECT_FALSE(result.saved);
      EXPECT_THAT(result.why_not, ::testing::HasSubstr("File too large"));
    });
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder.path())) names.push_back(entry.path().filename());
    EXPECT_THAT(names, ::testing::UnorderedElementsAre("step-00000001", "latest"));
    verify_checkpoint(folder / "step-00000001");
  }
}

TEST(Checkpoint, WhatOnlyLooksLikeOneIsPassedOver) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  const std::string newer = folder / "step-00000002";
  const auto make = [&] {
    fs::remove_all(newer);
    fs::create_directory(newer);
  };
  const std::vector<std::function<void()>> others = {
      [&] { make(); }, [&] { make(), fs::copy_file(folder / "step-00000001/manifest.json", newer + "/manifest.json"); },
      [&] { make(), mkfifo((newer + "/manifest.json").c_str(), 0600); },
      [&] { fs::remove_all(newer), fs::create_directory_symlink(folder / "step-00000001", newer); },
      [&] { fs::remove_all(newer), std::ofstream(newer) << "x"; }};
  for (const auto& other : others) {
    other();
    int notices = 0;
    EXPECT_EQ(newest_valid_checkpoint(folder.path(), [&](const std::string&) { ++notices; }), folder / "step-00000001");
    EXPECT_EQ(notices, 1);
  }
}

TEST(Checkpoint, AnotherGeometryIsNamed) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  std::vector<float> memory(14 * 6);
  std::vector<NamedShard> shards{{"model/a.weight", Rectangle::whole({14, 6}), Tensor::of(memory, {14, 6}), true}};
  try {
    load_checkpoint(*solo_communicator("world"), folder / "step-00000001", shards);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("[13, 6]"));
  }
}

}  // namespace
}  // namespace carillon::testing
