// RULER's synthetic tasks (Hsieh et al., 2404.06654, sections 3.1 to 3.3), zero-shot.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/tasks/retrieval.h"
#include "data/tasks/retrieval_draw.h"
#include "data/tasks/retrieval_words.h"

namespace carillon {
namespace {

constexpr int64_t kNeedles = 4;  // in tasks with several
constexpr int64_t kHops = 4;     // of variable tracking

void append(std::vector<int64_t>& to, const std::vector<int64_t>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// The number of occurrences of each rank's word: proportional to rank^-2, about `total` in all, at least one each.
std::vector<int64_t> zeta_counts(int64_t ranks, int64_t total) {
  double sum = 0;
  for (int64_t rank = 1; rank <= ranks; ++rank) sum += 1 / static_cast<double>(rank * rank);
  std::vector<int64_t> counts;
  for (int64_t rank = 1; rank <= ranks; ++rank)
    counts.push_back(std::max<int64_t>(
        1, static_cast<int64_t>(static_cast<double>(total) / (sum * static_cast<double>(rank * rank)))));
  // The ranks that are asked for must be distinguishable, however few words there are.
  for (size_t rank = std::min<size_t>(4, counts.size()); rank-- > 1;)
    counts[rank - 1] = std::max(counts[rank - 1], counts[rank] + 1);
  return counts;
}

}  // namespace

// The needles in order, at random places among `size` units of haystack.
Retrieval::Script Retrieval::hidden(Draw& draw, Script needles, int64_t size) const {
  std::vector<int64_t> places;
  for (size_t i = 0; i < needles.size(); ++i) places.push_back(draw.below(size + 1));
  std::sort(places.begin(), places.end());
  const Script around = haystack(draw, size);
  Script script;
  size_t next = 0;
  for (int64_t i = 0; i <= size; ++i) {
    for (; next < needles.size() && places[next] == i; ++next) script.push_back(needles[next]);
    if (i < size) script.push_back(around[static_cast<size_t>(i)]);
  }
  return script;
}

Retrieval::Part Retrieval::number(Draw& draw) const {
  Part part;
  for (int64_t i = 0; i < options_.digits; ++i) {
    part.text += static_cast<char>('0' + (i == 0 ? 1 + draw.below(9) : draw.below(10)));
    part.tokens.push_back(draw.below(symbols_));
  }
  return part;
}

bool Retrieval::taken(const std::vector<Part>& parts, const Part& part) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const Part& other) { return other.text == part.text || other.tokens == part.tokens; });
}

// Draws a name of two symbols that is not in `names`, and adds it there.
Retrieval::Part Retrieval::name(Draw& draw, std::vector<Part>& names) const {
  for (;;) {
    Part part{word_of(draw.below(4096)), {draw.below(symbols_), draw.below(symbols_)}};
    if (taken(names, part)) continue;
    names.push_back(part);
    return part;
  }
}

Retrieval::Script Retrieval::numbers(Draw& draw, int64_t size, RetrievalSample& sample) const {
  const std::string& task = options_.task;
  const int64_t names = task == "niah_multikey" || task == "niah_multiquery" ? kNeedles : 1;
  const int64_t values = task == "niah_multivalue" ? kNeedles : 1;
  std::vector<Part> keys;
  for (int64_t i = 0; i < names; ++i) name(draw, keys);
  const int64_t asked = task == "niah_multiquery" ? names : 1;
  std::vector<int64_t> question = {question_};
  std::string listed;
  for (int64_t i = 0; i < asked; ++i) {
    append(question, keys[static_cast<size_t>(i)].tokens);
    listed += (i == 0 ? "" : i + 1 == asked ? " and " : ", ") + keys[static_cast<size_t>(i)].text;
  }
  question.push_back(is_);

  Script needles;
  for (int64_t i = 0; i < names; ++i)
    for (int64_t j = 0; j < values; ++j) {
      const Part& key = keys[static_cast<size_t>(i)];
      const Part value = number(draw);
      if (i < asked) expect(sample, value);
      std::vector<int64_t> tokens = {needle_};
      append(tokens, key.tokens);
      tokens.push_back(is_);
      append(tokens, value.tokens);
      needles.push_back({"A number registered for " + key.text + " is " + value.text + ".", tokens});
    }
  draw.shuffle(needles);
  Script script = hidden(draw, std::move(needles), size);
  script.insert(script.begin(), {"The text below registers numbers for names. Remember them.", {}});
  if (asked * values == 1)
    script.push_back({"What is the number registered for " + listed + "? It is", question});
  else
    script.push_back({"What are all the numbers registered for " + listed + "? They are", question});
  return script;
}

Retrieval::Script Retrieval::variables(Draw& draw, int64_t size, RetrievalSample& sample) const {
  const Part value = number(draw);
  std::vector<Part> names;
  Script needles;
  for (int64_t hop = 0; hop <= kHops; ++hop) {
    Part part;
    do {
      part = {};
      for (int i = 0; i < 5; ++i) part.text += static_cast<char>('A' + draw.below(26));
      for (int i = 0; i < 2; ++i) part.tokens.push_back(draw.below(symbols_));
    } while (taken(names, part));
    const Part assigned = hop == 0 ? value : Part{"VAR " + names.back().text, names.back().tokens};
    names.push_back(part);
    std::vector<int64_t> tokens = {needle_};
    append(tokens, part.tokens);
    tokens.push_back(is_);
    append(tokens, assigned.tokens);
    needles.push_back({"VAR " + part.text + " = " + assigned.text + ".", tokens});
    expect(sample, part);
  }
  std::vector<int64_t> question = {question_};
  append(question, value.tokens);
  question.push_back(is_);
  Script script = hidden(draw, std::move(needles), size);
  script.insert(script.begin(), {"Follow the assignments of variables in the text below.", {}});
  script.push_back({"Which variables have the value " + value.text + "? They are the five variables", question});
  return script;
}

Retrieval::Part Retrieval::word(int64_t number) const {
  Part part;
  if (tokenizer_) {
    part.text = word_of(number % kWords);
    return part;
  }
  part.tokens.push_back(needle_);
  for (int64_t i = 0, rest = number; i < word_width_; ++i, rest /= symbols_) part.tokens.push_back(rest % symbols_);
  return part;
}

Retrieval::Script Retrieval::words(Draw& draw, int64_t size, RetrievalSample& sample) const {
  const bool common = options_.task == "cwe";
  // Words have consecutive numbers from a random start, so that all of them are distinct.
  int64_t range = tokenizer_ ? kWords : 1;
  if (!tokenizer_)
    for (int64_t i = 0; i < word_width_; ++i) range *= symbols_;
  const int64_t start = draw.below(range);
  const auto numbered = [&](int64_t i) { return word((start + i) % range); };
  std::vector<Part> list;
  if (common) {
    const int64_t often = options_.length < 4096 ? 6 : 30, seldom = options_.length < 4096 ? 1 : 3;
    for (int64_t i = 0; i < 10 + size; ++i) {
      const Part part = numbered(i);
      if (i < 10) expect(sample, part);
      for (int64_t times = 0; times < (i < 10 ? often : seldom); ++times) list.push_back(part);
    }
  } else {
    const std::vector<int64_t> counts = zeta_counts(std::max<int64_t>(6, options_.length / 50), 12 + size);
    for (size_t rank = 0; rank < counts.size(); ++rank) {
      const Part part = rank == 0 ? Part{"...", {needle_, filler_}} : numbered(static_cast<int64_t>(rank));
      if (rank >= 1 && rank <= 3) expect(sample, part);
      for (int64_t times = 0; times < counts[rank]; ++times) list.push_back(part);
    }
  }
  draw.shuffle(list);
  Script script = {{common ? "Below is a list of words. Some come often." : "Below is a coded text.", {}}};
  for (size_t i = 0; i < list.size(); ++i)
    script.push_back({common ? fmt::format("{}. {}", i + 1, list[i].text) : list[i].text, list[i].tokens});
  script.push_back({common ? "The ten words that come most often in the list are:"
                           : "Leaving out the dots, the three words that come most often in the text are:",
                    {question_}});
  return script;
}

}  // namespace carillon
