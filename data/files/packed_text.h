// Packs numbers and texts (each with its length) into one string, the format in which a child process returns its
// result. The reader need not trust the writer: every take_ function returns false if the bytes end early.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace carillon {

inline void put_number(std::string& to, int64_t value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
inline void put_text(std::string& to, std::string_view text) {
  put_number(to, static_cast<int64_t>(text.size()));
  to.append(text);
}

inline bool take_number(std::string_view& from, int64_t& value) {
  if (from.size() < sizeof value) return false;
  std::memcpy(&value, from.data(), sizeof value);
  from.remove_prefix(sizeof value);
  return true;
}
inline bool take_text(std::string_view& from, std::string& text) {
  int64_t length = 0;
  if (!take_number(from, length) || length < 0 || static_cast<uint64_t>(length) > from.size()) return false;
  text.assign(from.substr(0, static_cast<size_t>(length)));
  from.remove_prefix(static_cast<size_t>(length));
  return true;
}

}  // namespace carillon
