// Random pipelines on random text, against the results of Hugging Face's library (tests/golden/make_tokenizer_fuzz.py);
// and damaged files, which give error 65 or a working tokenizer.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "data/tokenizer/tokenizer.h"
#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

using Json = nlohmann::json;

const std::string kGolden = std::string(CARILLON_SOURCE) + "/tests/golden/tokenizers/";

std::string with_model(const Json& file, const Json& one) {
  Json whole = one.at("pipeline");
  Json model = file.at("models").at(one.at("base").get<size_t>());
  model.update(whole.at("model"));
  whole["model"] = std::move(model);
  return whole.dump();
}

void expect_spans(const std::vector<size_t>& ends, size_t ids, size_t size, const std::string& what) {
  ASSERT_EQ(ends.size(), ids) << what;
  EXPECT_TRUE(std::is_sorted(ends.begin(), ends.end())) << what;
  if (!ends.empty()) {
    EXPECT_LE(ends.back(), size) << what;
  }
}

// CARILLON_TOKENIZER_FUZZ names another file of the same format.
TEST(TokenizerFuzz, AsTheLibrary) {
  const char* other = std::getenv("CARILLON_TOKENIZER_FUZZ");
  const Json file = Json::parse(read_whole(other != nullptr ? other : kGolden + "fuzz.json"));
  int wrong = 0, compared = 0;
  for (const Json& one : file.at("cases")) {
    const std::string what = one.at("pipeline").dump();
    std::unique_ptr<Tokenizer> tokenizer;
    try {
      tokenizer = Tokenizer::from_json("tokenizer.json", with_model(file, one), "");
    } catch (const Error& error) {
      ++wrong;
      ADD_FAILURE() << error.what() << "\n" << what;
      continue;
    }
    for (const Json& item : one.at("texts")) {
      const auto text = item.at(0).get<std::string>();
      const auto ids = item.at(1).get<std::vector<uint32_t>>(), special = item.at(2).get<std::vector<uint32_t>>();
      try {
        std::vector<size_t> ends;
        const auto mine = tokenizer->encode(text, false), with_special = tokenizer->encode(text, true, &ends);
        expect_spans(ends, with_special.size(), text.size(), what);
        const auto decoded = tokenizer->decode(special, true), all = tokenizer->decode(special, false);
        ++compared;
        if (mine == ids && with_special == special && decoded == item.at(3) && all == item.at(4)) continue;
        ++wrong;
        ADD_FAILURE() << Json(text).dump() << "\nids " << Json(mine).dump() << "\nnot " << Json(ids).dump()
                      << "\nspecial " << Json(with_special).dump() << "\nnot     " << Json(special).dump()
                      << "\ndecoded " << Json(decoded).dump() << "\nnot     " << item.at(3).dump() << "\nall "
                      << Json(all).dump() << "\nnot " << item.at(4).dump() << "\n"
                      << what;
      } catch (const Error& error) {
        ++wrong;
        ADD_FAILURE() << error.what() << "\n" << Json(text).dump() << "\n" << what;
      }
      if (wrong > 20) return;
    }
  }
  RecordProperty("compared", compared);
  EXPECT_GT(compared, 120);
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  // A value that might occur anywhere in a damaged or hostile file.
  Json value() {
    const Json values[] = {Json(),
                           true,
                           -1,
                           0,
                           1,
                           4294967296u,
                           1e300,
                           -0.5,
                           "",
                           "a",
                           "Sequence",
                           "\\p{L}+",
                           "(((((",
                           "[a",
                           "\\p{Nope}",
                           "(?:a*)*b",
                           Json::array(),
                           Json::object(),
                           "\u2581",
                           "(a{1000}){1000}",
                           "Metaspace",
                           "Isolated",
                           Json(std::vector<int>(50, 7)),
                           2147483647,
                           2147483648u};
    return values[random_() % std::size(values)];
  }
  void structure(Json& json) {
    Json* at = &json;
    for (uint32_t depth = random_() % 7; depth > 0 && (at->is_object() || at->is_array()) && !at->empty(); --depth) {
      auto item = at->begin();
      std::advance(item, random_() % at->size());
      at = &*item;
    }
    if (at == &json) at = &json["pre_tokenizer"];
    switch (random_() % 4) {
      case 0:
        *at = value();
        break;
      case 1:  // remove one of its parts
        if ((at->is_object() || at->is_array()) && !at->empty()) {
          auto item = at->begin();
          std::advance(item, random_() % at->size());
          at->erase(item);
        }
        break;
      case 2:
        if (at->is_array()) at->push_back(value());
        break;
      default:  // nest it in itself
        if (at->dump(-1, ' ', false, Json::error_handler_t::replace).size() < 4096) *at = Json::array({*at, *at});
    }
  }
  void bytes(std::string& text) {
    for (uint32_t count = random_() % 4 + 1; count > 0 && !text.empty(); --count) {
      const size_t at = random_() % text.size();
      switch (random_() % 4) {
        case 0:
          text[at] = static_cast<char>(random_());
          break;
        case 1:
          text.erase(at, random_() % 9);
          break;
        case 2:
          text.insert(at, text.substr(random_() % text.size(), random_() % 12));
          break;
        default:
          text.insert(at, 1, "{}[]\",:0-"[random_() % 9]);
      }
    }
  }
  uint32_t operator()() { return random_(); }

 private:
  std::mt19937 random_;
};

// CARILLON_FUZZ_SECONDS sets the duration; without it a fixed number of files is tried.
TEST(TokenizerFuzz, DamagedFilesAreRefusedOrWork) {
  const Json golden = Json::parse(read_whole(kGolden + "fuzz.json"));
  const char* seconds = std::getenv("CARILLON_FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds != nullptr ? std::atoi(seconds) : 0);
  const char* seed = std::getenv("CARILLON_FUZZ_SEED");
  Mutator mutate(seed != nullptr ? static_cast<uint32_t>(std::atoi(seed)) : 5);
  const std::string text = "Hello  it's 1234 caf\u00e9 \u65e5\u672c \U0001F600 <s>\n\n tok";
  int refused = 0, worked = 0;
  for (int round = 0; seconds != nullptr ? std::chrono::steady_clock::now() < end : round < 600; ++round) {
    const Json& cases = golden.at("cases");
    std::string file = with_model(golden, cases.at(mutate() % cases.size()));
    if (mutate() % 3 == 0) {
      mutate.bytes(file);
    } else {
      Json json = Json::parse(file);
      for (uint32_t count = mutate() % 3 + 1; count > 0 && json.is_object(); --count) mutate.structure(json);
      file = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    try {
      const auto tokenizer = Tokenizer::from_json("tokenizer.json", file, "");
      std::vector<size_t> ends;
      const auto ids = tokenizer->encode(text, true, &ends);
      expect_spans(ends, ids.size(), text.size(), file);
      tokenizer->decode(ids, mutate() % 2 == 0);
      ++worked;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ExitCode::kBadInput) << error.what() << "\n" << file;
      ++refused;
    } catch (const std::exception& error) {
      FAIL() << error.what() << "\n" << file;
    }
  }
  EXPECT_GT(refused, 50);
  EXPECT_GT(worked, 50);
}

}  // namespace
}  // namespace carillon::testing
