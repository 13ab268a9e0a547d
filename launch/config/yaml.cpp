#include "launch/config/yaml.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <unordered_map>

#include "runtime/error.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// Builds YamlNodes from yaml-cpp's events, refusing what the header lists.
class Builder : public YAML::EventHandler {
 public:
  Builder(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {
    for (size_t begin = 0; begin <= text_.size();) {
      line_begin_.push_back(begin);
      const size_t end = text_.find('\n', begin);
      if (end == std::string_view::npos) break;
      begin = end + 1;
    }
  }

  YamlNode take() { return std::move(root_); }
  std::string place(const YAML::Mark& mark) const {
    return fmt::format("{}:{}:{}", name_, mark.line + 1, mark.column + 1);
  }

  // Whether a tab is among the blanks that the line at the mark, or the one before it, begins with.
  bool is_tab_before(const YAML::Mark& mark) const {
    for (int line = std::max(mark.line - 1, 0); line <= mark.line; ++line) {
      if (static_cast<size_t>(line) >= line_begin_.size()) return false;
      const std::string_view rest = text_.substr(line_begin_[static_cast<size_t>(line)]);
      const size_t text_begin = rest.find_first_not_of(" \t");
      if (rest.substr(0, text_begin).find('\t') != std::string_view::npos) return true;
    }
    return false;
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      fail(ExitCode::kUsage, "a second YAML document begins, {}, keep one document a file and remove the '---'",
           place(mark));
    }
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    begin(mark, "", anchor, YamlNode::Kind::kNull);
    end();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(ExitCode::kUsage, "a YAML alias is not allowed here, {}, write the value out (or quote a text with '*')",
         place(mark));
  }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_anchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    begin(mark, tag, anchor, YamlNode::Kind::kScalar);
    open_.back().node.text = value;
    open_.back().node.quoted = tag == "!";  // yaml-cpp's mark of a quoted or block scalar; plain ones have "?"
    end();
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor, YamlNode::Kind::kMapping);
  }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    YamlNode node;
    std::unordered_map<std::string, std::string> seen;  // a mapping's keys -> where
  };

  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) const {
    fail(ExitCode::kUsage, "a YAML anchor is not allowed here, {}, write the value out (or quote a text with '&')",
         place(mark));
  }

  // Returns the character at the mark. A tagged node begins with '!', even if yaml-cpp reports it like a quoted scalar.
  char character_at(const YAML::Mark& mark) const {
    const auto line = static_cast<size_t>(mark.line);
    if (mark.line < 0 || mark.column < 0 || line >= line_begin_.size()) return 0;
    const size_t at = line_begin_[line] + static_cast<size_t>(mark.column);
    return at < text_.size() ? text_[at] : 0;
  }

  void begin(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (anchor != 0) refuse_anchor(mark);
    if ((!tag.empty() && tag != "?" && tag != "!") || character_at(mark) == '!') {
      fail(ExitCode::kUsage, "a YAML tag is not allowed here, {}, remove it (or quote a text with '!')", place(mark));
    }
    if (++nodes_ > kYamlMaximumNodes) {
      fail(ExitCode::kUsage, "more than {} values, {}, move data out of the configuration", kYamlMaximumNodes,
           place(mark));
    }
    if (static_cast<int>(open_.size()) >= kYamlMaximumDepth) {
      fail(ExitCode::kUsage, "nested deeper than {} levels, {}, flatten it", kYamlMaximumDepth, place(mark));
    }
    Open open;
    open.node.kind = kind;
    open.node.where = place(mark);
    open_.push_back(std::move(open));
  }

  void end() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kMapping && parent.node.keys.size() == parent.node.items.size()) {
      add_key(parent, std::move(node));
    } else {
      parent.node.items.push_back(std::move(node));
    }
  }

  static void add_key(Open& mapping, YamlNode key) {
    if (key.kind != YamlNode::Kind::kScalar) {
      fail(ExitCode::kUsage, "a key must be plain text and is {}, {}, write NAME: VALUE", key.describe(), key.where);
    }
    if (key.text == "<<" && !key.quoted) {
      fail(ExitCode::kUsage, "a YAML merge key (<<) is not allowed here, {}, write the values out", key.where);
    }
    const auto [first, added] = mapping.seen.emplace(key.text, key.where);
    if (!added) {
      fail(ExitCode::kUsage, "key '{}' is given twice, {} and {}, keep one of them", printable(key.text), first->second,
           key.where);
    }
    mapping.node.keys.push_back(std::move(key));
  }

  std::string_view text_;
  std::string name_;
  std::vector<size_t> line_begin_;
  std::vector<Open> open_;
  YamlNode root_;
  int documents_ = 0;
  int nodes_ = 0;
};

// Checks for bytes that YAML does not allow or that readers treat differently (NUL, C0 controls, UTF-16).
void check_bytes(std::string_view text, const std::string& name) {
  if (text.size() > kYamlMaximumBytes) {
    fail(ExitCode::kUsage, "the configuration has {} bytes, {}, at most {} are read", text.size(), name,
         kYamlMaximumBytes);
  }
  // One of the first two bytes is NUL where a character takes two or four.
  const std::string_view start = text.substr(0, 2);
  if (start.starts_with("\xFF\xFE") || start.starts_with("\xFE\xFF") ||
      (start.size() > 1 && start.find('\0') != std::string_view::npos))
    fail(ExitCode::kUsage, "the file is UTF-16 or UTF-32 text, {}:1:1, save it as UTF-8", name);
  int line = 1;
  size_t line_begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\n') {
      ++line;
      line_begin = i + 1;
    } else if ((byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7F) {
      fail(ExitCode::kUsage, "a control character (\\x{:02x}) is not allowed, {}:{}:{}, remove it", byte, name, line,
           i - line_begin + 1);
    }
  }
  if (!is_utf8(text)) fail(ExitCode::kUsage, "the file is not UTF-8 text, {}:1:1, save it as UTF-8", name);
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].text == key) return &items[i];
  }
  return nullptr;
}

std::string YamlNode::describe() const {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kSequence:
      return "a list";
    case Kind::kMapping:
      return "a mapping";
    case Kind::kScalar:
      break;
  }
  // A long text would bury the message.
  const std::string shown =
      text.size() <= 80 ? printable(text) : printable(std::string_view(text).substr(0, 77)) + "...";
  return quoted ? fmt::format("the text \"{}\"", shown) : fmt::format("'{}'", shown);
}

YamlNode parse_yaml(std::string_view text, const std::string& name) {
  const std::string shown = printable(name);
  check_bytes(text, shown);
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);  // a byte order mark, as Windows editors write it
  Builder builder(text, shown);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const YAML::Mark mark = error.mark.is_null() ? YAML::Mark() : error.mark;
    fail(ExitCode::kUsage, "not readable as YAML ({}), {}, {}", error.msg, builder.place(mark),
         builder.is_tab_before(mark) ? "indent with blanks, YAML allows no tabs there" : "correct the syntax there");
  }
  return builder.take();
}

std::string read_small_file(const std::string& path, size_t maximum_bytes) {
  const std::string shown = printable(path);
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe without a writer must not block
  if (file < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP;
    const ExitCode code = missing ? ExitCode::kMissingInput : ExitCode::kInputOutput;
    if (errno == ENXIO) fail(ExitCode::kBadInput, "is a socket or a device, {}, name a file", shown);
    fail(code, "cannot open the file ({}), {}, check the path", std::strerror(errno), shown);
  }
  struct Closer {
    int file;
    ~Closer() { close(file); }
  } closer{file};
  struct stat status {};
  if (fstat(file, &status) != 0 || S_ISDIR(status.st_mode)) {
    fail(ExitCode::kBadInput, "a file is needed and this is a folder, {}, name the file in it", shown);
  }
  std::string text;
  char block[1 << 16];
  // A pipe (/dev/stdin, <(command)) is read to its end; O_NONBLOCK was only for the opening.
  fcntl(file, F_SETFL, 0);
  for (;;) {
    const ssize_t count = read(file, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      fail(ExitCode::kInputOutput, "cannot read the file ({}), {}, try again", std::strerror(errno), shown);
    if (count == 0) return text;
    text.append(block, static_cast<size_t>(count));
    if (text.size() > maximum_bytes) {
      fail(ExitCode::kUsage, "the file has more than {} bytes, {}, is it a configuration?", maximum_bytes, shown);
    }
  }
}

YamlNode parse_yaml_file(const std::string& path) { return parse_yaml(read_small_file(path, kYamlMaximumBytes), path); }

}  // namespace carillon
