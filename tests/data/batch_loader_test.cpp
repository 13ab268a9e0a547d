#include "data/corpus/batch_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "data/corpus/document_reader.h"
#include "data/corpus/token_file.h"
#include "parallel/transport/thread_communicator.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

// A store over JSON lines, with its cache in the folder of the test.
TokenStore store_of(const TemporaryFolder& folder, const std::string& lines, Communicator& world) {
  setenv("CARILLON_CACHE", (folder / "cache").c_str(), 1);
  const std::string path = folder / "train.jsonl";
  if (world.rank() == 0 && !std::filesystem::exists(path)) folder.write("train.jsonl", lines);
  world.barrier();
  return TokenStore::open(world, {path}, nullptr, std::nullopt, 1000, folder.path(), [](const std::string&) {});
}
TokenStore store_of(const TemporaryFolder& folder, const std::string& lines) {
  return store_of(folder, lines, *solo_communicator("world"));
}

std::vector<int64_t> row(const Tensor& x, int64_t b) {
  const int64_t length = x.size(1);
  return {x.data<int64_t>() + b * length, x.data<int64_t>() + (b + 1) * length};
}

TEST(BatchLoader, SaysWhatTheNetworkIsToldOfPackedDocuments) {
  const TemporaryFolder folder;
  const TokenStore store = store_of(folder, R"({"tokens":[1,2,3]}
{"tokens":[10,11,12,13],"loss_mask":[1,0,0.5,1]}

{"tokens":[20]}
)");
  BatchLoader loader(store, {.sequence_length = 9, .shuffle = false});
  ASSERT_EQ(loader.sequences(), 1);
  const auto views = loader.get(0, 0);
  EXPECT_EQ(row(views.tokens, 0), (std::vector<int64_t>{1, 2, 3, 10, 11, 12, 13, 20, 0}));
  EXPECT_EQ(row(views.position, 0), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 3, 0, 0}));
  EXPECT_EQ(row(views.first, 0), (std::vector<int64_t>{0, 0, 0, 3, 3, 3, 3, 7, 9}));
  // The first token of a document is never a target, nor is one of weight 0.
  EXPECT_EQ(row(views.target, 0), (std::vector<int64_t>{2, 3, -1, -1, 12, 13, -1, -1, -1}));
  const std::vector<double> weights(views.target_weight.data<double>(), views.target_weight.data<double>() + 9);
  EXPECT_EQ(weights, (std::vector<double>{1, 1, 0, 0, 0.5, 1, 0, 0, 0}));
}

// Each document of a sequence gets separate positions; which tokens a row attends to still depends on the index in the
// sequence.
TEST(BatchLoader, PositionsMaySkip) {
  const TemporaryFolder folder;
  const TokenStore store = store_of(folder, R"({"tokens":[1,2,3,4,5,6],"loss_mask":[0,0,0,1,1,1]}
{"tokens":[10,11,12,13,14],"loss_mask":[0,0,1,1,0]}
)");
  for (const PositionKind kind : {PositionKind::kPose, PositionKind::kSkipAlign}) {
    const PositionSettings settings{kind, 5000, 1};
    BatchLoader loader(store, {.sequence_length = 12, .positions = settings, .shuffle = false, .seed = 3});
    std::vector<int64_t> before;
    for (const int64_t taken : {0, 1, 7}) {
      const auto views = loader.get(taken, 0);
      std::vector<int64_t> expected(12);
      draw_positions(std::span(expected).first(6), std::vector<double>{0, 0, 0, 1, 1, 1}, settings, {3, taken, 0});
      draw_positions(std::span(expected).subspan(6, 5), std::vector<double>{0, 0, 1, 1, 0}, settings, {3, taken, 1});
      EXPECT_EQ(row(views.position, 0), expected);
      EXPECT_NE(expected, before) << "the same sequence, taken again, skips otherwise";
      EXPECT_EQ(row(views.first, 0), (std::vector<int64_t>{0, 0, 0, 0, 0, 0, 6, 6, 6, 6, 6, 12}));
      before = expected;
    }
  }
}

std::string numbered(int documents) {
  std::string lines;
  for (int i = 0; i < documents; ++i) lines += "{\"tokens\":[" + std::to_string(i) + "]}\n";
  return lines;
}

// The first tokens of the sequences that a step takes, over all ranks and micro-steps.
std::multiset<int64_t> taken(const TokenStore& store, BatchLoaderOptions options, int64_t step) {
  std::multiset<int64_t> result;
  for (options.dp_rank = 0; options.dp_rank < options.dp_size; ++options.dp_rank) {
    BatchLoader loader(store, options);
    for (int64_t micro = 0; micro < options.accumulation; ++micro) {
      const auto views = loader.get(step * loader.block(), micro);
      for (int64_t b = 0; b < options.micro_batch; ++b) result.insert(row(views.tokens, b)[0]);
    }
  }
  return result;
}

TEST(BatchLoader, LayoutsOfOneProductTakeTheSameSequences) {
  const TemporaryFolder folder;
  const TokenStore store = store_of(folder, numbered(29));
  for (const bool shuffle : {false, true})
    for (int64_t step = 0; step < 5; ++step) {
      BatchLoaderOptions options{
          .sequence_length = 1, .micro_batch = 12, .packing = PackingMode::kNone, .shuffle = shuffle, .seed = 4};
      const auto one = taken(store, options, step);
      for (const auto& [micro, accumulation, ranks] : {std::tuple{3, 2, 2}, {1, 3, 4}, {6, 1, 2}, {4, 3, 1}}) {
        options.micro_batch = micro, options.accumulation = accumulation, options.dp_size = ranks;
        EXPECT_EQ(taken(store, options, step), one) << micro << " " << accumulation << " " << ranks;
      }
    }
}

TEST(BatchLoader, RanksTakeEveryRthSequenceInFileOrderAndWrap) {
  const TemporaryFolder folder;
  const TokenStore store = store_of(folder, numbered(10));
  BatchLoader loader(store, {.sequence_length = 1,
                             .micro_batch = 2,
                             .accumulation = 2,
                             .packing = PackingMode::kNone,
                             .shuffle = false,
                             .dp_rank = 1,
                             .dp_size = 2});
  std::vector<int64_t> seen;
  for (int64_t step = 0; step < 2; ++step)
    for (int64_t micro = 0; micro < 2; ++micro) {
      const auto views = loader.get(step * loader.block(), micro);
      for (int64_t b = 0; b < 2; ++b) seen.push_back(row(views.tokens, b)[0]);
    }
  EXPECT_EQ(seen, (std::vector<int64_t>{1, 3, 5, 7, 9, 1, 3, 5}));
}

TEST(BatchLoader, ShufflesAnewEachEpochAndLosesNothing) {
  const TemporaryFolder folder;
  const TokenStore store = store_of(folder, numbered(50));
  BatchLoaderOptions options{.sequence_length = 1, .packing = PackingMode::kNone, .shuffle = true, .seed = 4};
  BatchLoader loader(store, options);
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t step = 0; step < 150; ++step) epochs[step / 50].push_back(row(loader.get(step, 0).tokens, 0)[0]);
  for (const auto& epoch : epochs) EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 50u);
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  // A loader that starts in the middle, as after a resume, gives the same.
  BatchLoader fresh(store, options);
  for (const int64_t step : {120, 7, 60})
    EXPECT_EQ(row(fresh.get(step, 0).tokens, 0)[0],
              epochs[static_cast<size_t>(step / 50)][static_cast<size_t>(step % 50)]);
  options.seed = 5;
  EXPECT_NE(row(BatchLoader(store, options).get(0, 0).tokens, 0), row(loader.get(0, 0).tokens, 0));
}

// Layout, batch and accumulation change between steps, in the middle of an epoch, shuffled or not: together the steps
// take every sequence of an epoch once, in the order of one rank with steps of one sequence.
TEST(BatchLoader, ChangingLayoutsNeitherSkipNorRepeat) {
  const TemporaryFolder folder;
  const TokenStore store = store_of(folder, numbered(29));
  for (const bool shuffle : {false, true}) {
    BatchLoaderOptions alone{.sequence_length = 1, .packing = PackingMode::kNone, .shuffle = shuffle, .seed = 4};
    BatchLoader one(store, alone);
    int64_t position = 0;
    for (const auto& [micro, accumulation, ranks] : {std::tuple{1, 1, 1}, {3, 2, 2}, {1, 3, 4}, {5, 1, 1}, {1, 1, 3}}) {
      BatchLoaderOptions options = alone;
      options.micro_batch = micro, options.accumulation = accumulation, options.dp_size = ranks;
      std::multiset<int64_t> expected, found;
      const int64_t block = int64_t{micro} * accumulation * ranks;
      for (int64_t i = 0; i < block; ++i) expected.insert(row(one.get(position + i, 0).tokens, 0)[0]);
      for (options.dp_rank = 0; options.dp_rank < ranks; ++options.dp_rank) {
        BatchLoader loader(store, options);
        EXPECT_EQ(loader.block(), block);
        for (int64_t step = 0; step < accumulation; ++step) {
          const auto views = loader.get(position, step);
          for (int64_t b = 0; b < micro; ++b) found.insert(row(views.tokens, b)[0]);
        }
      }
      EXPECT_EQ(found, expected) << "after sequence " << position;
      position += block;
    }
  }
}

std::string only_cache(const TemporaryFolder& folder) {
  return std::filesystem::directory_iterator(folder / "cache")->path();
}

// Files are identified by content: a different time and name do not matter; different bytes do, even with the same time
// and size.
TEST(TokenStore, IsFoundByContent) {
  const TemporaryFolder folder;
  const auto open = [&](const std::string& path) {
    return TokenStore::open(*solo_communicator("world"), {path}, nullptr, std::nullopt, 1000, folder.path(),
                            [](const std::string&) {});
  };
  EXPECT_EQ(store_of(folder, numbered(7)).tokens()[6], 6u);
  const std::string first = folder / "train.jsonl", moved = folder / "moved.jsonl";
  ASSERT_TRUE(std::filesystem::exists(first));
  std::filesystem::copy_file(first, moved);
  std::filesystem::last_write_time(moved, std::filesystem::file_time_type::clock::now() - std::chrono::hours(9));
  const std::string cache = only_cache(folder);
  const auto written = std::filesystem::last_write_time(cache);
  EXPECT_EQ(open(moved).documents(), 7);
  EXPECT_EQ(only_cache(folder), cache);
  EXPECT_EQ(std::filesystem::last_write_time(cache), written);
  const auto time = std::filesystem::last_write_time(first);
  std::string text = read_whole(first);
  text[text.rfind('6')] = '9';
  std::ofstream(first) << text;
  std::filesystem::last_write_time(first, time);
  EXPECT_EQ(open(first).tokens()[6], 9u) << "same name, size and time, other content";
}

// Tokens are not used if any bit changes: the parts that are read whole at the start are rebuilt; the others are
// refused when first used, and rebuilt by the next start.
TEST(TokenStore, NoFlippedBitIsTrainedOn) {
  const TemporaryFolder folder;
  const auto use = [&] {
    const TokenStore store = store_of(folder, "");
    BatchLoader loader(store, {.sequence_length = 3, .packing = PackingMode::kNone, .shuffle = false});
    std::vector<int64_t> seen;
    for (int64_t i = 0; i < 40; ++i) {
      const auto views = loader.get(i, 0);
      for (const int64_t token : row(views.tokens, 0)) seen.push_back(token);
      for (int64_t b = 0; b < 3; ++b) seen.push_back(static_cast<int64_t>(8 * views.target_weight.data<double>()[b]));
    }
    return seen;
  };
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += fmt::format("{{\"tokens\":[{},{},7],\"loss_mask\":[0,0.5,1]}}\n", i, i + 1);
  store_of(folder, lines);
  const std::vector<int64_t> expected = use();
  const std::string cache = only_cache(folder), whole = read_whole(cache);
  int refused = 0;
  for (size_t at = 0; at < whole.size(); at += 5) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    std::ofstream(cache, std::ios::binary) << damaged;
    try {
      EXPECT_EQ(use(), expected) << "byte " << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
      ++refused;
      EXPECT_EQ(use(), expected) << "made anew";
    }
  }
  EXPECT_EQ(refused, 0) << "so small a cache is read whole at the start";
}

// Opening a cache of many blocks reads only a few; the others are verified when their tokens are used.
TEST(TokenStore, AFlippedBitOfALargeCacheIsSeenWhenItIsUsed) {
  const TemporaryFolder folder;
  std::string lines = "{\"tokens\":[0";
  for (int i = 1; i < 300000; ++i) lines += "," + std::to_string(i % 1000);
  store_of(folder, lines + "]}\n");
  const std::string cache = only_cache(folder);
  std::string damaged = read_whole(cache);
  damaged[64 + 4 * 150000] ^= 1;
  std::ofstream(cache, std::ios::binary) << damaged;
  const TokenStore store = store_of(folder, "");
  BatchLoader loader(store, {.sequence_length = 1000, .packing = PackingMode::kSplit, .shuffle = false});
  EXPECT_EQ(row(loader.get(3, 0).tokens, 0)[5], 5);
  try {
    loader.get(150, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), ::testing::HasSubstr(cache));
  }
  const TokenStore again = store_of(folder, "");
  again.verify(0, again.token_count());
  EXPECT_EQ(again.tokens()[150000], 0u);
}

TEST(TokenFile, NoFlippedBitIsRead) {
  const TemporaryFolder folder;
  std::ofstream(folder / "a.jsonl") << "{\"tokens\":[1,2,3],\"loss_mask\":[0,0.5,1]}\n{\"tokens\":[9,8]}\n";
  DocumentReader reader({folder / "a.jsonl"}, {nullptr, std::nullopt, 1000});
  const std::string path = folder / "a.h5";
  write_token_file(path, reader);
  const auto use = [&] {
    const TokenFile file(path);
    std::vector<std::vector<uint32_t>> tokens(2);
    std::vector<std::vector<double>> weights(2);
    for (int64_t i = 0; i < 2; ++i) file.read(i, tokens.at(static_cast<size_t>(i)), weights.at(static_cast<size_t>(i)));
    return std::pair(tokens, weights);
  };
  const auto expected = use();
  EXPECT_EQ(expected.first[1], (std::vector<uint32_t>{9, 8}));
  EXPECT_EQ(expected.second[0], (std::vector<double>{0, 0.5, 1}));
  const std::string whole = read_whole(path);
  int refused = 0;
  for (size_t at = 0; at<whole.size(); at += whole.size()> 4096 ? 3 : 1) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    std::ofstream(path, std::ios::binary) << damaged;
    try {
      EXPECT_EQ(use(), expected) << "byte " << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(TokenStore, RanksShareOneCacheThatIsBuiltOnce) {
  const TemporaryFolder folder;
  run_ranks(3, [&](std::unique_ptr<Communicator> world) {
    const TokenStore store = store_of(folder, numbered(7), *world);
    EXPECT_EQ(store.documents(), 7);
    EXPECT_EQ(store.tokens()[6], 6u);
  });
  int files = 0;
  std::string cache;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "cache")) ++files, cache = entry.path();
  EXPECT_EQ(files, 1);
  const auto written = std::filesystem::last_write_time(cache);
  store_of(folder, "");
  EXPECT_EQ(std::filesystem::last_write_time(cache), written) << "found again";
  // A truncated cache, for example after a full disk, is rebuilt.
  std::filesystem::resize_file(cache, 70);
  EXPECT_EQ(store_of(folder, "").documents(), 7);
}

TEST(TokenStore, BadLinesAreNamed) {
  struct Bad {
    const char* line;
    const char* says;
    int code;
  };
  for (const Bad& bad : {Bad{"{\"tokens\":[1,", "is not valid JSON", 65},
                         {"[1]", "not a JSON object", 65},
                         {"{\"tokens\":[1],\"note\":1e999}", "beyond the range of a double", 65},
                         {"{\"tokens\":[18446744073709551616]}", "holds 1.8", 65},
                         {"{\"tokens\":[18446744073709551615]}", "holds 18446744073709551615", 65},
                         {"{\"tokens\":[]}", "empty", 65},
                         {"{\"tokens\":[1000]}", "outside the vocabulary", 65},
                         {"{\"tokens\":[-1]}", "outside the vocabulary", 65},
                         {"{\"tokens\":[1.5]}", "holds 1.5", 65},
                         {"{\"tokens\":[99999999999]}", "holds 99999999999", 65},
                         {"{\"tokens\":[1,2],\"loss_mask\":[1]}", "1 numbers for 2 tokens", 65},
                         {"{\"tokens\":[1,2],\"loss_mask\":[1,-1]}", "holds -1", 65},
                         {"{\"id\":1}", "neither", 65},
                         {"{\"text\":\"a\"}", "data.tokenizer", 64}}) {
    const TemporaryFolder folder;
    try {
      store_of(folder, "{\"tokens\":[1]}\n" + std::string(bad.line) + "\n");
      ADD_FAILURE() << bad.line;
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.code()), bad.code) << bad.line;
      EXPECT_THAT(error.what(), ::testing::HasSubstr(bad.says));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("train.jsonl:2")) << bad.line;
    }
  }
}

}  // namespace
}  // namespace carillon::testing
