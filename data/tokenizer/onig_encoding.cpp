#include "data/tokenizer/onig_encoding.h"

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/character_set.h"
#include "data/tokenizer/unicode_tables.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// Classes of \p{…} are numbered from here on; the library's own numbers are far below.
constexpr unsigned kFirstProperty = 1u << 16;
// From here on the library looks up classes in its ranges; below, it has a table of Latin 1, which we do not replace.
constexpr OnigCodePoint kLatinEnd = 256;
constexpr OnigCodePoint kAsciiEnd = 128;

const OnigEncodingType& library() { return OnigEncodingUTF8; }

// The set of one of our classes, or nullptr if it is left to the library (newline, ascii).
const CharacterSet* set_of(unsigned type) {
  if (type >= kFirstProperty) return &CharacterSet::at(static_cast<int>(type - kFirstProperty));
  // In the order of ONIGENC_CTYPE_….
  static const std::array<const CharacterSet*, ONIGENC_MAX_STD_CTYPE + 1> posix = [] {
    std::array<const CharacterSet*, ONIGENC_MAX_STD_CTYPE + 1> sets{};
    const char* const names[] = {"",      "alpha", "blank", "cntrl", "digit",  "graph", "lower",
                                 "print", "punct", "space", "upper", "xdigit", "word",  "alnum"};
    for (size_t i = 1; i < std::size(names); ++i) {
      sets[i] = CharacterSet::find(std::string("posix ") + names[i]);
      CHECK(sets[i] != nullptr, "unicode_tables.cpp has all POSIX classes", names[i]);
    }
    return sets;
  }();
  return type < posix.size() ? posix[type] : nullptr;
}

int property_name_to_ctype(OnigEncodingType*, OnigUChar* begin, OnigUChar* end) {
  std::string name;
  for (const OnigUChar* p = begin; p < end; ++p) {
    if (*p == ' ' || *p == '-' || *p == '_') continue;
    if (*p >= kAsciiEnd) return ONIGERR_INVALID_CHAR_PROPERTY_NAME;
    name += static_cast<char>(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
  }
  if (name == "word") return ONIGENC_CTYPE_WORD;  // outside of classes the library uses its table of Latin 1
  const int index = CharacterSet::index_of(name);
  return index < 0 ? ONIGERR_INVALID_CHAR_PROPERTY_NAME : static_cast<int>(kFirstProperty) + index;
}

int is_code_ctype(OnigCodePoint code, OnigCtype type) {
  if (type <= ONIGENC_MAX_STD_CTYPE && code < kLatinEnd) return library().is_code_ctype(code, type);
  const CharacterSet* set = set_of(type);
  return set != nullptr ? static_cast<int>(set->contains(static_cast<int32_t>(code)))
                        : library().is_code_ctype(code, type);
}

int get_ctype_code_range(OnigCtype type, OnigCodePoint* single_byte_end, const OnigCodePoint** ranges) {
  const CharacterSet* set = set_of(type);
  if (set == nullptr) return library().get_ctype_code_range(type, single_byte_end, ranges);
  *single_byte_end = kAsciiEnd;
  *ranges = set->ranges().data();
  return 0;
}

// Pairs of letters that the installed library does not yet fold, in both directions.
struct NewerFolds {
  std::vector<std::pair<OnigCodePoint, OnigCodePoint>> pairs;  // upper, lower
  std::unordered_map<OnigCodePoint, OnigCodePoint> other, lower;
};
const NewerFolds& newer_folds() {
  static const NewerFolds folds = [] {
    NewerFolds made;
    for (const auto& [upper, lower] : newer_case_pairs()) {
      const auto from = static_cast<OnigCodePoint>(upper), to = static_cast<OnigCodePoint>(lower);
      OnigUChar text[ONIGENC_CODE_TO_MBC_MAXLEN], folded[ONIGENC_MBC_CASE_FOLD_MAXLEN];
      const int length = library().code_to_mbc(from, text);
      const OnigUChar* at = text;
      const int size = library().mbc_case_fold(ONIGENC_CASE_FOLD_MIN, &at, text + length, folded);
      if (library().mbc_to_code(folded, folded + size) != from) continue;
      made.pairs.emplace_back(from, to);
      made.other[from] = to;
      made.other[to] = from;
      made.lower[from] = to;
    }
    return made;
  }();
  return folds;
}

int mbc_case_fold(OnigCaseFoldType flag, const OnigUChar** at, const OnigUChar* end, OnigUChar* to) {
  if (**at >= kAsciiEnd) {
    const auto newer = newer_folds().lower.find(library().mbc_to_code(*at, end));
    if (newer != newer_folds().lower.end()) {
      *at += library().mbc_enc_len(*at);
      return library().code_to_mbc(newer->second, to);
    }
  }
  return library().mbc_case_fold(flag, at, end, to);
}

int apply_all_case_fold(OnigCaseFoldType flag, OnigApplyAllCaseFoldFunc apply, void* argument) {
  for (const auto& [upper, lower] : newer_folds().pairs) {
    OnigCodePoint one = upper, other = lower;
    if (const int error = apply(upper, &other, 1, argument); error != 0) return error;
    if (const int error = apply(lower, &one, 1, argument); error != 0) return error;
  }
  return library().apply_all_case_fold(flag, apply, argument);
}

int get_case_fold_codes_by_str(OnigCaseFoldType flag, const OnigUChar* at, const OnigUChar* end,
                               OnigCaseFoldCodeItem items[]) {
  const int count = library().get_case_fold_codes_by_str(flag, at, end, items);
  if (count < 0 || *at < kAsciiEnd || count >= ONIGENC_GET_CASE_FOLD_CODES_MAX_NUM) return count;
  const auto newer = newer_folds().other.find(library().mbc_to_code(at, end));
  if (newer == newer_folds().other.end()) return count;
  items[count].byte_len = library().mbc_enc_len(at);
  items[count].code_len = 1;
  items[count].code[0] = newer->second;
  return count + 1;
}

}  // namespace

OnigEncoding onig_encoding() {
  static OnigEncodingType encoding = [] {
    OnigEncoding base = ONIG_ENCODING_UTF8;
    CHECK(onig_initialize(&base, 1) == ONIG_NORMAL, "Oniguruma initialises", "");
    OnigEncodingType ours = *base;
    ours.name = "UTF-8 with Carillon's classes";
    ours.property_name_to_ctype = property_name_to_ctype;
    ours.is_code_ctype = is_code_ctype;
    ours.get_ctype_code_range = get_ctype_code_range;
    ours.mbc_case_fold = mbc_case_fold;
    ours.apply_all_case_fold = apply_all_case_fold;
    ours.get_case_fold_codes_by_str = get_case_fold_codes_by_str;
    return ours;
  }();
  return &encoding;
}

}  // namespace carillon
