#include "data/tokenizer/byte_pair.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/tokenizer/unicode.h"
#include "runtime/check.h"

namespace carillon {
namespace {

uint64_t pair_key(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

bool absent_or_empty(const nlohmann::json& model, const char* key) {
  const auto found = model.find(key);
  return found == model.end() || found->is_null() ||
         (found->is_string() && found->get_ref<const std::string&>().empty());
}

struct Symbol {
  uint32_t id;
  int32_t previous;
  int32_t next;  // -1 at the end; kGone once merged into its left neighbour
};
constexpr int32_t kGone = -2;

struct Candidate {
  uint32_t rank;
  int32_t at;
  uint32_t result;
  // std::priority_queue returns the largest first: lowest rank, then leftmost.
  bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
};

}  // namespace

BytePairModel::BytePairModel(const nlohmann::json& model, const std::string& where) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!absent_or_empty(model, key))
      fail(ExitCode::kBadInput, "model.{} is not supported, {}, use a byte-level tokenizer", key, where);
  if (const auto dropout = model.find("dropout"); dropout != model.end() && !dropout->is_null() && *dropout != 0.0)
    fail(ExitCode::kBadInput, "model.dropout makes ids random, {}, set it to null", where);

  for (const auto& [token, id] : model.at("vocab").items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= (uint64_t{1} << 31))
      fail(ExitCode::kBadInput, "the id of token '{}' is {}, {}, ids are integers from 0", token, id.dump(), where);
    const auto added = id_of_.emplace(token, id.get<uint32_t>()).first;
    if (!token_of_.emplace(added->second, &added->first).second)
      fail(ExitCode::kBadInput, "id {} belongs to two tokens, '{}' and '{}', {}, fix the vocabulary", added->second,
           *token_of_.at(added->second), token, where);
  }

  uint32_t rank = 0;
  for (const auto& merge : model.at("merges")) {
    std::string left, right;
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
    } else if (merge.is_array() && merge.size() == 2) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    }
    const auto left_id = id_of(left), right_id = id_of(right), result = id_of(left + right);
    if (!left_id || !right_id || !result)
      fail(ExitCode::kBadInput, "merge {} ({}) is of or into tokens that do not exist, {}, fix the merges", rank,
           merge.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), where);
    merges_[pair_key(*left_id, *right_id)] = {rank++, *result};
  }

  if (!absent_or_empty(model, "unk_token")) {
    unknown_ = id_of(model.at("unk_token").get<std::string>());
    if (!unknown_) fail(ExitCode::kBadInput, "model.unk_token is not in the vocabulary, {}, fix the file", where);
  }
  fuse_unknown_ = model.value("fuse_unk", false);
  byte_fallback_ = model.value("byte_fallback", false);
  ignore_merges_ = model.value("ignore_merges", false);
}

std::optional<uint32_t> BytePairModel::id_of(std::string_view token) const {
  const auto found = id_of_.find(token);
  return found == id_of_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* BytePairModel::token_of(uint32_t id) const {
  const auto found = token_of_.find(id);
  return found == token_of_.end() ? nullptr : found->second;
}

void BytePairModel::encode(std::string_view word, std::vector<uint32_t>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const auto whole = id_of(word)) {
      ids.push_back(*whole);
      return;
    }
  }
  std::vector<uint32_t> symbols;
  first_symbols(word, symbols);
  merge(symbols, ids);
}

void BytePairModel::first_symbols(std::string_view word, std::vector<uint32_t>& symbols) const {
  // An unknown token is only added before the next known character, so bytes of other characters may come before it, as
  // in Hugging Face's library.
  bool waiting = false;
  const auto flush = [&] {
    if (waiting) symbols.push_back(*unknown_);
    waiting = false;
  };
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    next_code_point(word, at);
    const std::string_view character = word.substr(begin, at - begin);
    if (const auto id = id_of(character)) {
      flush();
      symbols.push_back(*id);
      continue;
    }
    if (byte_fallback_) {
      std::vector<uint32_t> bytes;
      for (const char byte : character)
        if (const auto id = id_of(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte)))) bytes.push_back(*id);
      if (bytes.size() == character.size()) {
        symbols.insert(symbols.end(), bytes.begin(), bytes.end());
        continue;
      }
    }
    // If there is no unknown token, such a character is dropped, as in Hugging Face's library.
    if (!unknown_) continue;
    if (!fuse_unknown_) flush();
    waiting = true;
  }
  flush();
}

void BytePairModel::merge(std::vector<uint32_t>& symbols, std::vector<uint32_t>& ids) const {
  if (symbols.size() > static_cast<size_t>(INT32_MAX))
    fail(ExitCode::kBadInput, "a word of {} characters, text, cut the document", symbols.size());
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<Symbol> list(symbols.size());
  std::vector<Candidate> heap;
  const auto consider = [&](int32_t left, int32_t right) {
    const auto found = merges_.find(pair_key(list[left].id, list[right].id));
    if (found == merges_.end()) return;
    heap.push_back({found->second.rank, left, found->second.result});
    std::push_heap(heap.begin(), heap.end());
  };
  for (int32_t i = 0; i < count; ++i) list[i] = {symbols[i], i - 1, i + 1 < count ? i + 1 : -1};
  for (int32_t i = 0; i + 1 < count; ++i) consider(i, i + 1);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = list[best.at];
    if (left.next < 0) continue;  // already merged, or no right neighbour any more
    Symbol& right = list[left.next];
    const auto found = merges_.find(pair_key(left.id, right.id));
    if (found == merges_.end() || found->second.result != best.result)
      continue;  // its right neighbour has changed
                 // since

    left.id = best.result;
    left.next = right.next;
    right.next = kGone;
    if (left.next >= 0) list[left.next].previous = best.at;
    if (left.previous >= 0) consider(left.previous, best.at);
    if (left.next >= 0) consider(best.at, left.next);
  }
  for (const Symbol& symbol : list)
    if (symbol.next != kGone) ids.push_back(symbol.id);
}

}  // namespace carillon
