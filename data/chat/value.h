// Template values with Python's semantics: what `{{ x }}` prints, and how `==`, `<`, `in` and `if` treat them. A Value
// is a few bytes and is copied freely. Texts, lists and other objects are allocated in a Heap and live as long as it.
// So nothing is reference-counted, cycles (a namespace that contains itself) are harmless, and freeing a template's
// values needs no recursion.
//
// Python's integers are unbounded; these have 64 bits. A larger result is an error, and a longer number from JSON is
// stored as its digits (kBigInteger), which can be printed but not used in calculations.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace carillon::jinja {

enum class Kind : uint8_t {
  kMissing,  // no value yet: a variable that was never set
  kUndefined,
  kNone,
  kBool,
  kInteger,
  kBigInteger,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kDictView,  // keys(), values(), items()
  kRange,
  kIterator,  // can be read only once, like Python's generators
  kNamespace,
  kFunction,  // built in, or a method bound to its value
  kMacro,
  kLoop,
  kCycler,
  kJoiner,
  kDictClass,  // the global `dict`
};

// Why a template stopped. kRaised: the template called raise_exception; kLimit: it exceeded one of our bounds.
class TemplateError : public std::runtime_error {
 public:
  enum class Reason { kSyntax, kUnknownName, kRuntime, kRaised, kLimit };
  TemplateError(Reason why, const std::string& message) : std::runtime_error(message), reason(why) {}
  Reason reason;
  int line = 0;  // from 1; 0: not yet known
  int column = 0;
};
[[noreturn]] void raise(const std::string& message);  // throws a TemplateError of kRuntime

struct Object {
  virtual ~Object() = default;
};
struct Text;
struct List;
struct Dict;

struct Value {
  Kind kind = Kind::kMissing;
  union {
    bool boolean;
    int64_t integer = 0;
    double number;
    Object* object;
  };

  static Value none() { return of(Kind::kNone); }
  static Value from(bool value);
  static Value from(int64_t value);
  static Value from(double value);
  static Value of(Kind kind, Object* object = nullptr);

  bool is(Kind other) const { return kind == other; }
  bool is_undefined() const { return kind == Kind::kUndefined || kind == Kind::kMissing; }
  bool is_string() const { return kind == Kind::kString; }
  bool is_integral() const { return kind == Kind::kInteger || kind == Kind::kBool; }
  bool is_number() const { return is_integral() || kind == Kind::kFloat; }
  bool is_sequence() const { return kind == Kind::kList || kind == Kind::kTuple; }
  int64_t as_integer() const { return kind == Kind::kBool ? boolean : integer; }
  double as_double() const { return kind == Kind::kFloat ? number : static_cast<double>(as_integer()); }
  const std::string& text() const;  // of a string
  const Text& string() const;
  const std::vector<Value>& items() const;  // of a list or tuple
  const Dict& dict() const;
};

struct Text : Object {
  std::string text;     // UTF-8
  int64_t length = 0;   // code points
  bool markup = false;  // markupsafe's Markup: texts joined to it are escaped
};
struct UndefinedObject : Object {
  std::string message;  // the error if it is used for more than printing
};
struct List : Object {  // and tuple
  std::vector<Value> items;
  bool is_group = false;  // result of groupby: has `grouper` and `list`
};
struct Dict : Object {
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_map<std::string, size_t> by_text;  // index of the string keys
  const Value* find(const Value& key) const;
  const Value* find(const std::string& key) const;
  void set(const Value& key, const Value& value);  // an existing key keeps its place
};
struct DictView : Object {
  enum class Part { kKeys, kValues, kItems } part = Part::kKeys;
  const Dict* dict = nullptr;
};
struct Range : Object {
  int64_t start = 0, stop = 0, step = 1;
  int64_t length() const;
};
using Next = std::function<bool(Value&)>;  // stores the next value, or returns false
struct Iterator : Object {
  Next next;
  int depth = 0;  // nesting depth of iterators over iterators
};
struct Namespace : Object {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(const std::string& name);
  void set(const std::string& name, const Value& value);
};
struct Cycler : Object {
  std::vector<Value> items;
  size_t position = 0;
};
struct Joiner : Object {
  Value separator;
  bool used = false;
};

class Evaluator;
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};
struct Function : Object {
  std::string name;
  std::function<Value(Evaluator&, Arguments&)> call;
};

// Bounds of one rendering. Every evaluated node and every 16 bytes that are made or read cost a step, so `steps` bounds
// both time and memory (nothing is freed before the end). `depth` bounds nested evaluation, including macro calls.
struct Limits {
  int64_t steps = int64_t{1} << 24;
  int64_t output_bytes = int64_t{1} << 28;
  int depth = 1000;
};

class Heap {
 public:
  explicit Heap(int64_t steps = INT64_MAX) : steps_(steps) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  // Charges one step plus one per 16 bytes. TemplateError of kLimit if none is left.
  void charge(size_t bytes = 0);
  int64_t steps_left() const { return steps_; }

  template <class T>
  T* make() {
    charge(sizeof(T));
    auto owned = std::make_unique<T>();
    T* object = owned.get();
    objects_.push_back(std::move(owned));
    return object;
  }
  Value string(std::string text, bool markup = false);
  Value undefined(std::string message);
  Value list(std::vector<Value> items);
  Value tuple(std::vector<Value> items);
  Value function(std::string name, std::function<Value(Evaluator&, Arguments&)> call);
  // `depth` is one more than that of the iterator it reads from.
  Value iterator(Next next, int depth);

 private:
  int64_t steps_;
  std::vector<std::unique_ptr<Object>> objects_;
};

const char* type_name(const Value& value);              // as in Python: 'str', 'NoneType'
[[noreturn]] void raise_undefined(const Value& value);  // throws UndefinedError
bool truth(const Value& value);
// Python's == and <. less() throws TypeError (kRuntime) for kinds that have no order. TemplateError of kLimit if values
// are nested too deeply to be compared or printed.
void check_depth(int depth);
bool equal(Heap& heap, const Value& a, const Value& b, int depth = 0);
bool less(Heap& heap, const Value& a, const Value& b, const char* sign, int depth = 0);
bool less_or_equal(Heap& heap, const Value& a, const Value& b, const char* sign);
bool same(const Value& a, const Value& b);  // `is`
void check_hashable(const Value& value);
// str() and repr(). Values whose text contains an address (methods, generators) are an error, because the text would
// differ from run to run.
std::string to_text(Heap& heap, const Value& value);
std::string representation(Heap& heap, const Value& value, int depth = 0);
std::string float_text(double value);
std::string string_representation(std::string_view text);

// Iteration; TypeError for values that Python cannot iterate.
bool is_iterable(const Value& value);
Next iterate(Heap& heap, const Value& value);
int iterator_depth(const Value& value);
std::vector<Value> to_vector(Heap& heap, const Value& value);
std::optional<int64_t> length(Heap& heap, const Value& value);  // nothing if there is no len()

}  // namespace carillon::jinja
