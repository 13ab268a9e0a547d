#include "data/tasks/retrieval_words.h"

#include <array>

namespace carillon {
namespace {

constexpr std::array<const char*, 64> kAdjectives = {
    "amber",  "ancient", "autumn",   "bitter", "blue",   "bold",    "brave",  "bright",  "broad", "bronze", "calm",
    "clever", "cold",    "copper",   "coral",  "crisp",  "dark",    "deep",   "distant", "dusty", "early",  "eastern",
    "empty",  "faint",   "famous",   "fresh",  "gentle", "golden",  "grand",  "green",   "grey",  "happy",  "hidden",
    "hollow", "honest",  "humble",   "icy",    "late",   "light",   "little", "lonely",  "loud",  "lucky",  "misty",
    "narrow", "noble",   "northern", "old",    "pale",   "patient", "plain",  "proud",   "quick", "quiet",  "rapid",
    "round",  "silver",  "simple",   "slow",   "small",  "steady",  "tall",   "warm",    "young"};
constexpr std::array<const char*, 64> kNouns = {
    "anchor",  "apple",  "arrow",   "basket", "beacon", "bell",   "bottle",  "branch", "bridge", "cabin",    "candle",
    "canyon",  "carpet", "castle",  "cellar", "chapel", "circle", "clock",   "cloud",  "coast",  "cottage",  "cradle",
    "desert",  "drum",   "engine",  "fabric", "falcon", "farm",   "feather", "fiddle", "forest", "fountain", "garden",
    "glacier", "hammer", "harbour", "island", "kettle", "ladder", "lantern", "meadow", "mirror", "mountain", "needle",
    "orchard", "palace", "pebble",  "pillow", "planet", "quarry", "ribbon",  "river",  "saddle", "shelter",  "signal",
    "station", "summit", "table",   "temple", "thread", "tower",  "valley",  "window", "winter"};

}  // namespace

std::string word_of(int64_t number) {
  const auto index = static_cast<size_t>(number);
  std::string word = kAdjectives[index / 64 % 64];
  if (index >= 64 * 64) word += std::string("-") + kAdjectives[index / 4096 % 64];
  return word + "-" + kNouns[index % 64];
}

const std::vector<std::string>& plain_sentences() {
  static const std::vector<std::string> sentences = {"The wind is low.", "The road is long.", "The barn is red.",
                                                     "We walk for a while.", "Then we turn back."};
  return sentences;
}

std::string sentence_of(int64_t a, int64_t b) {
  const auto adjective = [](int64_t n) { return kAdjectives[static_cast<size_t>(n % 64)]; };
  const auto noun = [](int64_t n) { return kNouns[static_cast<size_t>(n / 64 % 64)]; };
  constexpr std::array<const char*, 8> kVerbs = {"stands behind", "was built before", "looks like", "belongs to",
                                                 "lies next to",  "reminds us of",    "came after", "points towards"};
  return std::string("The ") + adjective(a) + " " + noun(a) + " " + kVerbs[static_cast<size_t>(a / 4096 % 8)] +
         " the " + adjective(b) + " " + noun(b) + ".";
}

int64_t largest_with_room(const std::function<int64_t(int64_t size)>& room) {
  int64_t good = 0, bad = 1;
  for (; room(bad) >= 0; bad *= 2) good = bad;
  while (bad - good > 1) {
    const int64_t middle = (good + bad) / 2;
    (room(middle) >= 0 ? good : bad) = middle;
  }
  return good;
}

}  // namespace carillon
