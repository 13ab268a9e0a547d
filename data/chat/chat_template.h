// Renders rows of conversation as text: chooses the template, passes it the row, and finds the bytes of its output that
// are the assistant's. The text equals transformers' apply_chat_template(messages, tools=…, tokenize=False).
//
// A row is a JSON object with one of
//   messages       [{"role": …, "content": …}, …]; content is a text, a list of {"type": "text", "text": …}, or absent
//   conversations  [{"from": human|gpt|system|tool, "value": …}, …], read as messages (ShareGPT)
//   prompt, completion   both texts, or both lists of messages
// and any further keys, which the template sees under their names (`tools`, `documents`, `enable_thinking`, also the
// entries of `chat_template_kwargs`). Null keys are dropped, also in messages; `reasoning` and `thinking` are also
// available as `reasoning_content`, as in transformers.
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
  bool is_plain = false;  // prompt and completion are texts: no template was used; end_of_document follows
  bool all = false;       // everything is a target
  std::vector<std::pair<size_t, size_t>> trained;  // bytes [begin, end), in order; in a plain text up to its end
};

class ChatTemplate {
 public:
  // `choice` is data.chat_template: a file or the name of a built-in template (`qwen3`, `chatml`). If it is empty, the
  // tokenizer's own template is used, as in transformers: chat_template.jinja, and
  // additional_chat_templates/tool_use.jinja for rows with tools; without either, `chat_template` of
  // tokenizer_config.json, which is a text or a list with `default` and `tool_use`. `tokenizer_path` is the tokenizer's
  // file or folder, which also defines the special tokens; empty: there is none. `files` replaces the folder: its files
  // by name (Tokenizer::files). A missing template is not an error before the first row that needs one. Throws error 64
  // for a broken template, with line and column, and 66 for a missing file.
  static std::unique_ptr<ChatTemplate> open(const std::string& choice, const std::string& tokenizer_path,
                                            const std::map<std::string, std::string>& files = {});
  // The same for an opened tokenizer, which may be null.
  static std::unique_ptr<ChatTemplate> open(const std::optional<std::string>& choice, const Tokenizer* tokenizer);
  // Uses the given texts; `where` names the template in errors.
  static std::unique_ptr<ChatTemplate> from_text(const std::string& where, const std::string& source,
                                                 const std::string& tokenizer_config);

  // Whether a row is one of the above. present(key) tells whether the row has this key with a value other than null.
  template <class Present>
  static bool has_chat_keys(const Present& present) {
    return present("messages") || present("conversations") || (present("prompt") && present("completion"));
  }

  // `where` is file and line, for messages. Error 64 if there is no template. Error 65 for a row that is none of the
  // above, has content of another type, makes the template fail, or whose turns cannot be located. Turns are located by
  // `{% generation %}`; otherwise by rendering the conversation up to each turn, with and without a generation prompt,
  // which fails if the template then writes the earlier turns differently.
  RenderedChat render(std::string_view row_json, TrainOn train_on, const std::string& where) const;

  // Renders the row as a prompt to be continued: its messages followed by a generation prompt; of prompt and completion
  // only the prompt, which may also be given alone. Throws what render throws, and 65 if the last message is the
  // assistant's.
  RenderedChat render_prompt(std::string_view row_json, const std::string& where) const;

  // If hashes are equal, rows render to the same text.
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
  std::vector<std::pair<std::string, std::string>> tokens_;  // bos_token and similar ones
  std::vector<std::string> additional_tokens_;
  uint64_t hash_ = 0;
};

// The built-in template with this name, or an empty text.
std::string_view built_in_chat_template(std::string_view name);

}  // namespace carillon
