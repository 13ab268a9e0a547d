#include "data/chat/chat_template.h"

namespace carillon {
namespace {

// Qwen3's format: writes a history as the model's own template does, and marks the assistant's part of each turn. As
// the model expects, thoughts are kept only in the turns after the last question; this is why rendering prefixes does
// not locate the turns of its own template. The end-of-turn token belongs to the turn, the newline after it does not.
constexpr std::string_view kQwen3 = R"jinja(
{%- macro turn_begin(role) -%}
    {{ '<|im_start|>' ~ role ~ '\n' }}
{%- endmacro -%}
{%- macro tool_call(given) -%}
    {%- set called = given.function if given.function else given -%}
    {{ '<tool_call>\n{"name": "' ~ called.name ~ '", "arguments": ' }}
    {{- called.arguments if called.arguments is string else called.arguments | tojson }}
    {{- '}\n</tool_call>' }}
{%- endmacro -%}
{%- set begins_with_system = messages[0].role == 'system' -%}
{%- if tools -%}
    {{ turn_begin('system') ~ (messages[0].content ~ '\n\n' if begins_with_system else '') }}
    {{- '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' }}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
    {%- for tool in tools -%}
        {{ '\n' ~ tool | tojson }}
    {%- endfor -%}
    {{ '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' }}
    {{- '<tool_call></tool_call> XML tags:\n<tool_call>\n' }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n' }}
{%- elif begins_with_system -%}
    {{ turn_begin('system') ~ messages[0].content ~ '<|im_end|>\n' }}
{%- endif -%}
{#- The last question: a user's message that is not a tool's answer. Without one, nothing lies after it. -#}
{%- set question = namespace(index=messages | length - 1) -%}
{%- for message in messages -%}
    {%- set text = message.content -%}
    {%- if message.role == 'user' and text is string
           and not (text.startswith('<tool_response>') and text.endswith('</tool_response>')) -%}
        {%- set question.index = loop.index0 -%}
    {%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else '' -%}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
        {{ turn_begin(message.role) ~ content ~ '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' -%}
        {%- set thought = '' -%}
        {%- if message.reasoning_content is string -%}
            {%- set thought = message.reasoning_content -%}
        {%- elif '</think>' in content -%}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}
            {%- set content = content.split('</think>')[-1].lstrip('\n') -%}
        {%- endif -%}
        {%- set shows_thought = loop.index0 > question.index and (loop.last or thought) -%}
        {{ turn_begin('assistant') }}
        {%- generation -%}
            {%- if shows_thought -%}
                {{ '<think>\n' ~ thought.strip('\n') ~ '\n</think>\n\n' ~ content.lstrip('\n') }}
            {%- else -%}
                {{ content }}
            {%- endif -%}
            {%- for call in message.tool_calls or [] -%}
                {{ ('\n' if content or not loop.first else '') ~ tool_call(call) }}
            {%- endfor -%}
            {{ '<|im_end|>' }}
        {%- endgeneration -%}
        {{ '\n' }}
    {%- elif message.role == 'tool' -%}
        {{ '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' }}
        {{- '\n<tool_response>\n' ~ content ~ '\n</tool_response>' }}
        {{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' else '' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ turn_begin('assistant') }}
    {{- '<think>\n\n</think>\n\n' if enable_thinking is defined and enable_thinking is false else '' }}
{%- endif -%}
)jinja";

// ChatML for models without a template, such as base models: a turn is <|im_start|>role, a newline, the content and
// <|im_end|>. Messages with other fields are refused, because ChatML has no form for them.
constexpr std::string_view kChatMl = R"jinja(
{%- if tools -%}
    {{ raise_exception('ChatML has no form for tools: take a template that has') }}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.tool_calls -%}
        {{ raise_exception('ChatML has no form for calls of tools: take a template that has') }}
    {%- endif -%}
    {{ '<|im_start|>' ~ message.role ~ '\n' }}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{ message.content ~ '<|im_end|>' }}{%- endgeneration -%}
        {{ '\n' }}
    {%- else -%}
        {{ message.content ~ '<|im_end|>\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<|im_start|>assistant\n' }}
{%- endif -%}
)jinja";

}  // namespace

std::string_view built_in_chat_template(std::string_view name) {
  if (name == "qwen3") return kQwen3;
  if (name == "chatml") return kChatMl;
  return {};
}

}  // namespace carillon
