// Rows of conversation to text: which template, what it is given, and which bytes of what it writes are the
// assistant's. The text equals transformers' apply_chat_template(messages, tools=…, tokenize=False).
//
// A row is a JSON object with one of
//   messages       [{"role": …, "content": …}, …]; content is a text, a list of {"type": "text", "text": …}, or absent
//   conversations  [{"from": human|gpt|system|tool, "value": …}, …], read as messages (ShareGPT)
//   prompt, completion   both texts, or both lists of messages
// and any further keys, which the template sees by their names (`tools`, `documents`, `enable_thinking`; the entries of
// `chat_template_kwargs` too). Keys that are null are dropped, of messages also; `reasoning` and `thinking` are seen as
// `reasoning_content`, as in transformers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/chat/template.h"
#include "data/chat/train_on.h"
#include "data/tokenizer/token_configuration.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct RenderedChat {
  std::string text;
  bool is_plain =
      false;         // prompt and completion as texts: no template has had a part, an end-of-document token follows
  bool all = false;  // everything is a target
  std::vector<std::pair<size_t, size_t>> trained;  // bytes [begin, end), in order; of a plain text the end is its end
};

class ChatTemplate {
 public:
  // choice: data.chat_template, a file or the name of a built-in template (`qwen3`, `chatml`); empty: the tokenizer's
  // own, which lies beside it, as in transformers: chat_template.jinja and additional_chat_templates/tool_use.jinja,
  // which is taken when the row has tools; without either tokenizer_config.json's `chat_template`, one or a list of
  // `default` and `tool_use`. tokenizer_path: its file or folder, which also names the special tokens; empty: nothing
  // lies beside it. files: in place of the folder, its files by name (Tokenizer::files). Never fails for want of a
  // template: that shows with the first row that needs one. Error 64 for a broken template, with its line and column,
  // 66 for a file that is not there.
  static std::unique_ptr<ChatTemplate> open(const std::string& choice, const std::string& tokenizer_path,
                                            const std::map<std::string, std::string>& files = {});
  // The same of an opened tokenizer, which may be none.
  static std::unique_ptr<ChatTemplate> open(const std::optional<std::string>& choice, const Tokenizer* tokenizer);
  // From the texts themselves; `where` names the template in errors.
  static std::unique_ptr<ChatTemplate> from_text(const std::string& where, const std::string& source,
                                                 const std::string& tokenizer_config);

  // Whether a row is one of the above; present(key): it has this key, and not as null.
  template <class Present>
  static bool has_chat_keys(const Present& present) {
    return present("messages") || present("conversations") || (present("prompt") && present("completion"));
  }

  // `where`: file and line, for messages. Error 64 when there is no template; 65 for a row that is none of the above,
  // has content of another type, makes the template fail, or whose turns cannot be told apart: they are found by
  // `{% generation %}`, else by rendering the conversation up to each turn, with and without a generation prompt, and a
  // template that then writes the turns before differently does not allow that.
  RenderedChat render(std::string_view row_json, TrainOn train_on, const std::string& where) const;

  // The row as something to go on from: its messages with a generation prompt after them; of prompt and completion the
  // prompt, which may also stand alone. Errors as render's, and 65 where the last message is the assistant's.
  RenderedChat render_prompt(std::string_view row_json, const std::string& where) const;

  // Rows render to the same text under equal values.
  uint64_t hash() const { return hash_; }

 private:
  struct Row;
  struct Named {
    std::string name;   // "default", "tool_use"
    std::string where;  // for messages
    std::unique_ptr<jinja::Template> parsed;
  };
  void add(const std::string& name, const std::string& where, const std::string& source);
  void read_tokens(const TokenFiles& files, const std::string& where);
  const Named& choose(bool has_tools, const std::string& where) const;
  Row read(std::string_view row_json, const std::string& where, bool as_prompt = false) const;
  jinja::Rendered run_whole(const Row& row, bool prompt, const std::string& where) const;
  jinja::Rendered run(const Named& named, const Row& row, size_t messages, bool prompt) const;
  void find_turns(const Named& named, const Row& row, TrainOn train_on, RenderedChat& chat,
                  const std::vector<jinja::Span>& generated) const;

  std::vector<Named> templates_;
  std::vector<std::pair<std::string, std::string>> tokens_;  // bos_token and its like
  std::vector<std::string> additional_tokens_;
  uint64_t hash_ = 0;
};

// The built-in template of that name, or an empty text.
std::string_view built_in_chat_template(std::string_view name);

}  // namespace carillon
