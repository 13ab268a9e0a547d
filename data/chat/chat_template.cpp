#include "data/chat/chat_template.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "data/chat/json.h"
#include "data/chat/text.h"
#include "data/formats/hugging_face_folder.h"
#include "runtime/error.h"

namespace carillon {

namespace fs = std::filesystem;
using jinja::Heap;
using jinja::Kind;
using jinja::TemplateError;
using jinja::Value;

namespace {

// Removes newlines from a text for an error message; the text may be long and may quote a template.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string at_position(const std::string& where, const TemplateError& error) {
  return error.line > 0 ? fmt::format("{}:{}:{}", where, error.line, error.column) : where;
}

bool is_text(const Value* value) { return value != nullptr && value->is_string(); }

}  // namespace

// A row as the template will see it. The heap is unlimited: it contains only what was in the file.
struct ChatTemplate::Row {
  std::unique_ptr<Heap> heap = std::make_unique<Heap>();
  std::vector<Value> messages;
  size_t prompt_messages = 0;  // number of messages that belong to the prompt; 0: there was no prompt
  bool is_plain = false;
  std::string prompt, completion;
  Value tools = Value::none();
  std::vector<std::pair<std::string, Value>> more;
  std::string where;
  size_t bytes = 0;

  [[noreturn]] void fail_at(size_t message, const std::string& what, const std::string& remedy) const {
    fail(ExitCode::kBadInput, "message {} {}, {}, {}", message + 1, what, where, remedy);
  }
  bool is_assistant(size_t message) const {
    const Value* role = messages[message].dict().find("role");
    return role != nullptr && role->is_string() && role->text() == "assistant";
  }
  void read_messages(const Value& list, const char* key);
  void read_share_gpt(const Value& list);
};

namespace {

// As in transformers: null entries are dropped, and reasoning is available under each of its names.
Value normalised(Heap& heap, const jinja::Dict& message) {
  auto* kept = heap.make<jinja::Dict>();
  const Value* reasoning = nullptr;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const Value* found = message.find(name);
    if (reasoning == nullptr && found != nullptr && !found->is(Kind::kNone)) reasoning = found;
  }
  if (reasoning != nullptr) kept->set(heap.string("thinking"), *reasoning);
  for (const auto& [key, value] : message.entries)
    if (!value.is(Kind::kNone)) kept->set(key, value);
  if (reasoning != nullptr) kept->set(heap.string("reasoning_content"), *reasoning);
  return Value::of(Kind::kDict, kept);
}

}  // namespace

void ChatTemplate::Row::read_messages(const Value& list, const char* key) {
  if (!list.is(Kind::kList) || list.items().empty())
    fail(ExitCode::kBadInput, "`{}` is not a list of messages, {}, write [{{\"role\": …, \"content\": …}}, …]", key,
         where);
  for (const Value& message : list.items()) {
    const size_t number = messages.size();
    if (!message.is(Kind::kDict)) fail_at(number, "is not an object", "write {\"role\": …, \"content\": …}");
    if (!is_text(message.dict().find("role"))) fail_at(number, "has no `role`", "name who speaks");
    const Value* content = message.dict().find("content");
    if (content != nullptr && content->is(Kind::kList)) {
      for (const Value& part : content->items()) {
        const Value* type = part.is(Kind::kDict) ? part.dict().find("type") : nullptr;
        if (!is_text(type))
          fail_at(number, "has a part of `content` without a type", "write {\"type\": \"text\", \"text\": …}");
        if (type->text() != "text")
          fail_at(number, "has content of type '" + one_line(type->text()) + "'", "only text can be trained on");
        if (!is_text(part.dict().find("text"))) fail_at(number, "has a part of `content` without `text`", "write it");
      }
    } else if (content != nullptr && !content->is_string() && !content->is(Kind::kNone)) {
      fail_at(number, "has `content` that is neither text nor a list of texts", "write text");
    }
    messages.push_back(normalised(*heap, message.dict()));
  }
}

void ChatTemplate::Row::read_share_gpt(const Value& list) {
  static const std::map<std::string, std::string> kRoles = {{"human", "user"},    {"gpt", "assistant"},
                                                            {"system", "system"}, {"tool", "tool"},
                                                            {"user", "user"},     {"assistant", "assistant"}};
  if (!list.is(Kind::kList) || list.items().empty())
    fail(ExitCode::kBadInput, "`conversations` is not a list of messages, {}, write [{{\"from\": …, \"value\": …}}, …]",
         where);
  const Value& first = list.items()[0];
  if (first.is(Kind::kDict) && is_text(first.dict().find("role"))) return read_messages(list, "conversations");
  std::vector<Value> converted;
  for (size_t i = 0; i < list.items().size(); ++i) {
    const Value& message = list.items()[i];
    const bool whole =
        message.is(Kind::kDict) && is_text(message.dict().find("from")) && is_text(message.dict().find("value"));
    if (!whole) fail_at(i, "has no `from` and `value`", "write {\"from\": \"human\", \"value\": …}");
    const auto role = kRoles.find(message.dict().find("from")->text());
    if (role == kRoles.end())
      fail_at(i, "is from '" + one_line(message.dict().find("from")->text()) + "'", "write human, gpt, system or tool");
    auto* made = heap->make<jinja::Dict>();
    made->set(heap->string("role"), heap->string(role->second));
    made->set(heap->string("content"), *message.dict().find("value"));
    for (const auto& [key, value] : message.dict().entries)
      if (key.text() != "from" && key.text() != "value") made->set(key, value);
    converted.push_back(Value::of(Kind::kDict, made));
  }
  read_messages(heap->list(std::move(converted)), "conversations");
}

ChatTemplate::Row ChatTemplate::read(std::string_view row_json, const std::string& where, bool as_prompt) const {
  Row row;
  row.where = where;
  row.bytes = row_json.size();
  Value json;
  try {
    json = jinja::read_json(*row.heap, row_json);
  } catch (const std::invalid_argument& error) {
    fail(ExitCode::kBadInput, "is not valid JSON (at {}), {}, write one object per line", error.what(), where);
  }
  if (!json.is(Kind::kDict)) fail(ExitCode::kBadInput, "is not a JSON object, {}, write one object per line", where);
  const jinja::Dict& dict = json.dict();
  const auto present = [&](const char* key) {
    const Value* found = dict.find(key);
    return found != nullptr && !found->is(Kind::kNone) ? found : nullptr;
  };
  const Value *messages = present("messages"), *conversations = present("conversations"), *prompt = present("prompt"),
              *completion = present("completion");
  if (messages != nullptr) {
    row.read_messages(*messages, "messages");
  } else if (conversations != nullptr) {
    row.read_share_gpt(*conversations);
  } else if (prompt != nullptr && as_prompt) {
    if (prompt->is_string()) {
      row.is_plain = true;
      row.prompt = prompt->text();
    } else {
      row.read_messages(*prompt, "prompt");
    }
  } else if (prompt != nullptr && completion != nullptr) {
    if (prompt->is_string() && completion->is_string()) {
      row.is_plain = true;
      row.prompt = prompt->text();
      row.completion = completion->text();
    } else if (prompt->is(Kind::kList) && completion->is(Kind::kList)) {
      row.read_messages(*prompt, "prompt");
      row.prompt_messages = row.messages.size();
      row.read_messages(*completion, "completion");
    } else {
      fail(ExitCode::kBadInput,
           "`prompt` and `completion` are not both texts or both lists of messages, {}, write them alike", where);
    }
  } else {
    fail(ExitCode::kBadInput, "has neither `messages` nor `prompt` and `completion`, {}, add them", where);
  }
  if (const Value* tools = present("tools")) {
    if (!tools->is(Kind::kList))
      fail(ExitCode::kBadInput, "`tools` is not a list, {}, write a list of JSON schemas", where);
    for (const Value& tool : tools->items())
      if (!tool.is(Kind::kDict))
        fail(ExitCode::kBadInput, "`tools` holds something that is not an object, {}, write JSON schemas", where);
    row.tools = *tools;
  }
  static const std::vector<std::string> kOwn = {
      "messages", "conversations", "prompt", "completion", "tools", "add_generation_prompt", "chat_template_kwargs"};
  for (const auto& [key, value] : dict.entries)
    if (!value.is(Kind::kNone) && std::find(kOwn.begin(), kOwn.end(), key.text()) == kOwn.end())
      row.more.emplace_back(key.text(), value);
  if (const Value* more = present("chat_template_kwargs"); more != nullptr && more->is(Kind::kDict))
    for (const auto& [key, value] : more->dict().entries) row.more.emplace_back(key.text(), value);
  return row;
}

void ChatTemplate::add(const std::string& name, const std::string& where, const std::string& source) {
  hash_ = XXH3_64bits_withSeed(source.data(), source.size(), XXH3_64bits_withSeed(name.data(), name.size(), hash_ + 1));
  try {
    templates_.push_back({name, where, std::make_unique<jinja::Template>(source)});
  } catch (const TemplateError& error) {
    fail(ExitCode::kUsage,
         "the chat template cannot be read: {}, {}, correct it, or name another by data.chat_template",
         one_line(error.what()), at_position(where, error));
  }
}

void ChatTemplate::read_tokens(const TokenFiles& files, const std::string& where) {
  const TokenConfiguration configuration(files, where);
  tokens_ = configuration.named_tokens();
  additional_tokens_ = configuration.unnamed_tokens();
  for (const std::string& text : additional_tokens_)
    hash_ = XXH3_64bits_withSeed(text.data(), text.size(), hash_ + 'A');
  for (const auto& [name, text] : tokens_) hash_ = XXH3_64bits_withSeed(text.data(), text.size(), hash_ + name[0]);
}

std::unique_ptr<ChatTemplate> ChatTemplate::from_text(const std::string& where, const std::string& source,
                                                      const std::string& tokenizer_config) {
  auto made = std::make_unique<ChatTemplate>();
  made->read_tokens({tokenizer_config, "", ""}, where);
  made->add("default", where, source);
  return made;
}

std::unique_ptr<ChatTemplate> ChatTemplate::open(const std::string& choice, const std::string& tokenizer_path,
                                                 const std::map<std::string, std::string>& files) {
  auto made = std::make_unique<ChatTemplate>();
  fs::path folder = tokenizer_path;
  if (!tokenizer_path.empty() && !fs::is_directory(folder)) folder = folder.parent_path();
  const bool beside = !files.empty() || (!tokenizer_path.empty() && !tokenizer_path.ends_with(".h5"));
  // The text of a file next to the tokenizer, if there is one.
  const auto text_of = [&](const char* name) -> std::optional<std::string> {
    if (!beside) return std::nullopt;
    if (!files.empty()) return files.contains(name) ? std::optional(files.at(name)) : std::nullopt;
    const fs::path path = folder / name;
    return fs::exists(path) ? std::optional(read_whole_file(path.string())) : std::nullopt;
  };
  const fs::path config_path = folder / "tokenizer_config.json";
  const std::string config = text_of("tokenizer_config.json").value_or("");
  made->read_tokens({config, text_of("special_tokens_map.json").value_or(""), ""}, folder.string());
  if (!choice.empty()) {
    std::error_code error;  // a name that is too long is none of a file
    if (fs::exists(choice, error)) {
      made->add("default", choice, read_whole_file(choice));
    } else if (const std::string_view text = built_in_chat_template(choice); !text.empty()) {
      made->add("default", "the built-in template " + choice, std::string(text));
    } else {
      fail(ExitCode::kMissingInput,
           "there is no such chat template, {}, name a file or one of the built-in qwen3 and chatml", choice);
    }
    return made;
  }
  if (!beside) return made;
  for (const auto& [name, file] : {std::pair("default", "chat_template.jinja"), {"tool_use", kToolTemplate}})
    if (const auto text = text_of(file)) made->add(name, (folder / file).string(), *text);
  if (!made->templates_.empty()) return made;
  if (config.empty()) return made;
  const auto json = nlohmann::json::parse(config, nullptr, false);
  const auto found = json.find("chat_template");
  if (found == json.end()) return made;
  const std::string where = config_path.string() + " (chat_template)";
  if (found->is_string()) made->add("default", where, found->get<std::string>());
  if (found->is_array())
    for (const auto& entry : *found)
      if (entry.is_object() && entry.contains("name") && entry.contains("template") && entry["name"].is_string() &&
          entry["template"].is_string())
        made->add(entry["name"].get<std::string>(), where, entry["template"].get<std::string>());
  return made;
}

std::unique_ptr<ChatTemplate> ChatTemplate::open(const std::optional<std::string>& choice, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return open(choice.value_or(""), "");
  return open(choice.value_or(""), tokenizer->path(), tokenizer->files());
}

const ChatTemplate::Named& ChatTemplate::choose(bool has_tools, const std::string& where) const {
  const auto find = [&](const char* name) -> const Named* {
    for (const Named& named : templates_)
      if (named.name == name) return &named;
    return nullptr;
  };
  const Named* chosen = has_tools ? find("tool_use") : nullptr;
  if (chosen == nullptr) chosen = find("default");
  if (chosen == nullptr)
    fail(ExitCode::kUsage,
         "holds messages, but the tokenizer has no chat template, {}, name one: data.chat_template, or a command's own "
         "chat_template",
         where);
  return *chosen;
}

// Renders the first `messages` of the row, optionally followed by a generation prompt.
jinja::Rendered ChatTemplate::run(const Named& named, const Row& row, size_t messages, bool prompt) const {
  Heap heap;
  std::vector<std::pair<std::string, Value>> variables;
  for (const auto& [name, text] : tokens_) variables.emplace_back(name, heap.string(text));
  if (!additional_tokens_.empty()) {
    std::vector<Value> list;
    for (const std::string& text : additional_tokens_) list.push_back(heap.string(text));
    variables.emplace_back("additional_special_tokens", heap.list(std::move(list)));
  }
  variables.emplace_back("documents", Value::none());
  variables.insert(variables.end(), row.more.begin(), row.more.end());
  variables.emplace_back(
      "messages", heap.list({row.messages.begin(), row.messages.begin() + static_cast<std::ptrdiff_t>(messages)}));
  variables.emplace_back("tools", row.tools);
  variables.emplace_back("add_generation_prompt", Value::from(prompt));
  // Limits grow with the length of the row.
  jinja::Limits limits;
  limits.steps += 64 * static_cast<int64_t>(row.bytes);
  limits.output_bytes += 16 * static_cast<int64_t>(row.bytes);
  return named.parsed->render(variables, limits);
}

namespace {
size_t without_space_behind(const std::string& text, size_t end) {
  return jinja::strip(std::string_view(text).substr(0, end), jinja::Side::kRight).size();
}
// Joins spans of nested generation blocks, whose inner ones are reported first; what any of them contains is trained.
void join_overlapping(std::vector<std::pair<size_t, size_t>>& pieces) {
  std::sort(pieces.begin(), pieces.end());
  size_t kept = 0;
  for (size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].first < pieces[kept].second)
      pieces[kept].second = std::max(pieces[kept].second, pieces[i].second);
    else
      pieces[++kept] = pieces[i];
  }
  if (!pieces.empty()) pieces.resize(kept + 1);
}

}  // namespace

void ChatTemplate::find_turns(const Named& named, const Row& row, TrainOn train_on, RenderedChat& chat,
                              const std::vector<jinja::Span>& generated) const {
  const size_t count = row.messages.size();
  size_t first = row.prompt_messages;  // messages before it are not trained
  std::vector<size_t> turns;
  for (size_t i = first; i < count; ++i)
    if (row.is_assistant(i)) turns.push_back(i);
  if (train_on == TrainOn::kLastAssistant && !turns.empty()) {
    turns = {turns.back()};
    first = turns[0];
  }
  if (named.parsed->marks_generation()) {
    // The spans of turns before `first` come first; rendering those turns alone tells how many there are.
    size_t skipped = 0;
    if (first > 0) skipped = std::min(run(named, row, first, false).generated.size(), generated.size());
    for (size_t i = skipped; i < generated.size(); ++i) {
      const size_t begin = jinja::byte_offset(chat.text, generated[i].first);
      const size_t end = jinja::byte_offset(chat.text, generated[i].second);
      if (begin < end) chat.trained.emplace_back(begin, end);
    }
    join_overlapping(chat.trained);
    return;
  }
  const auto nests = [&](size_t turn, const std::string& prompt, size_t end, const std::string& text) {
    if (prompt.size() <= end && text.starts_with(prompt) &&
        std::string_view(chat.text).substr(0, end) == std::string_view(text).substr(0, end))
      return;
    row.fail_at(
        turn,
        fmt::format("(a turn that is trained) is written differently by the chat template {} when the conversation "
                    "goes on, so that its tokens cannot be told",
                    named.where),
        "use a template with {% generation %} blocks (data.chat_template), data.train_on: last_assistant or all");
  };
  const auto prefix = [&](size_t turn, size_t messages, bool prompt) {
    try {
      return run(named, row, messages, prompt).text;
    } catch (const TemplateError& error) {
      row.fail_at(turn,
                  fmt::format("(a turn that is trained) cannot be found, as the chat template {} refuses the "
                              "conversation up to it ({})",
                              at_position(named.where, error), one_line(error.what())),
                  "use a template with {% generation %} blocks (data.chat_template), or data.train_on: all");
    }
  };
  if (row.prompt_messages > 0 && train_on == TrainOn::kAssistant) {
    const std::string prompt = prefix(first, first, !row.is_assistant(first - 1));
    const size_t end = without_space_behind(chat.text, chat.text.size());
    nests(first, prompt, std::max(end, prompt.size()), chat.text);
    if (prompt.size() < end) chat.trained.emplace_back(prompt.size(), end);
    return;
  }
  for (const size_t turn : turns) {
    const std::string prompt = prefix(turn, turn, true);
    const std::string text = turn + 1 == count ? chat.text : prefix(turn, turn + 1, false);
    const size_t end = without_space_behind(text, text.size());
    nests(turn, prompt, end, text);
    if (prompt.size() < end) chat.trained.emplace_back(prompt.size(), end);
  }
}

jinja::Rendered ChatTemplate::run_whole(const Row& row, bool prompt, const std::string& where) const {
  const Named& named = choose(!row.tools.is(Kind::kNone), where);
  try {
    return run(named, row, row.messages.size(), prompt);
  } catch (const TemplateError& error) {
    const bool broken =
        error.reason == TemplateError::Reason::kUnknownName || error.reason == TemplateError::Reason::kSyntax;
    fail(broken ? ExitCode::kUsage : ExitCode::kBadInput,
         "the chat template says: {} (at {}), {}, correct the row or the template", one_line(error.what()),
         at_position(named.where, error), where);
  }
}

RenderedChat ChatTemplate::render(std::string_view row_json, TrainOn train_on, const std::string& where) const {
  const Row row = read(row_json, where);
  RenderedChat chat;
  chat.all = train_on == TrainOn::kAll;
  if (row.is_plain) {
    chat.is_plain = true;
    chat.text = row.prompt + row.completion;
    if (!chat.all) chat.trained.emplace_back(row.prompt.size(), chat.text.size());
    return chat;
  }
  jinja::Rendered rendered = run_whole(row, /*prompt=*/false, where);
  chat.text = std::move(rendered.text);
  if (!chat.all) find_turns(choose(!row.tools.is(Kind::kNone), where), row, train_on, chat, rendered.generated);
  return chat;
}

RenderedChat ChatTemplate::render_prompt(std::string_view row_json, const std::string& where) const {
  const Row row = read(row_json, where, /*as_prompt=*/true);
  RenderedChat chat;
  chat.all = true;
  chat.is_plain = row.is_plain;
  if (!row.is_plain && !row.messages.empty() && row.is_assistant(row.messages.size() - 1))
    fail(ExitCode::kBadInput,
         "the conversation ends with the assistant's turn, {}, leave that out: it is what is to be written", where);
  chat.text = row.is_plain ? row.prompt : run_whole(row, /*prompt=*/true, where).text;
  return chat;
}

}  // namespace carillon
