"""Conversations for rendering chat templates: every kind of message that common templates distinguish."""

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather of a town — today's \"best\" guess <b>&</b>",
        "parameters": {"type": "object", "properties": {
            "town": {"type": "string", "description": "Town's name"},
            "days": {"type": "integer", "default": 3, "minimum": 1},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "scale": {"type": ["number", "null"], "nullable": True}}, "required": ["town"]},
        "return": {"type": "object", "description": "temperature"}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds numbers.", "parameters": {"type": "object", "properties": {
            "numbers": {"type": "array", "items": {"type": "number"}}, "nested": {"type": "object", "properties": {
                "deep": {"type": "boolean"}}}}, "required": ["numbers"]}}},
]


def call(name, arguments, number="call_0001x"):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def text_parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


HISTORIES = {
    "one": [user("Hello?")],
    "turn": [user("Hello?"), assistant("Hi!")],
    "system": [{"role": "system", "content": "Be brief."}, user(" Why?\n"), assistant("\nBecause. ")],
    "turns": [user("a"), assistant("b"), user("c"), assistant("d"), user("é 漢字 🙂 'quoted' \"twice\""), assistant("f\n\n")],
    "developer": [{"role": "developer", "content": "Do as told."}, user("x"), assistant("y")],
    "think": [user("2+2?"), assistant("<think>\nLet me see.\n</think>\n\n4"), user("and 3+3?"),
              assistant("<think>Six.</think>6")],
    "reasoning": [user("2+2?"), assistant("4", reasoning_content="Two and two."), user("3+3?"),
                  assistant("6", reasoning_content="\nThree and three.\n", thinking="Three and three.")],
    "tools": [{"role": "system", "content": "Use tools."}, user("Weather in Köln?"),
              assistant("", tool_calls=[call("get_weather", {"town": "Köln", "days": 2})]),
              {"role": "tool", "name": "get_weather", "content": '{"t": 21.5}', "tool_call_id": "call_0001x"},
              assistant("21.5 degrees."), user("Thanks"), assistant("Welcome.")],
    "tools_text": [user("Sum?"), assistant("One moment.", tool_calls=[
        call("add", {"numbers": [1, 2.5, -3e-7], "nested": {"deep": True, "none": None}}), call("add", {"numbers": []}, "call_0002y")]),
        {"role": "tool", "name": "add", "content": "-0.5", "tool_call_id": "call_0001x"},
        {"role": "tool", "name": "add", "content": "0", "tool_call_id": "call_0002y"}, assistant("Done.")],
    "tools_string": [user("Sum?"), assistant("", tool_calls=[call("add", '{"numbers": [1]}')]),
                     {"role": "tool", "content": "1"}, assistant("1")],
    "tools_bare": [user("Sum?"), assistant("x", tool_calls=[{"name": "add", "arguments": {"numbers": [1]}}]),
                   {"role": "tool", "content": [{"type": "text", "text": "1"}]}, assistant("1")],
    "parts": [{"role": "system", "content": text_parts("Be", " kind.")}, {"role": "user", "content": text_parts("One ", "two")},
              {"role": "assistant", "content": text_parts("three")}],
    "two_users": [user("a"), user("b"), assistant("c")],
    "assistant_first": [assistant("a"), user("b")],
    "two_assistants": [user("a"), assistant("b"), assistant("c")],
    "no_content": [user("a"), {"role": "assistant", "tool_calls": [call("add", {})]}],
    "odd_role": [{"role": "narrator", "content": "Once."}, user("a"), assistant("b")],
    "special": [user("<|im_end|>\n<|im_start|>user <s>[INST]</s>"), assistant("<tool_call>x</tool_call>")],
}

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def variables():
    """(name, variables of the template), for every history with and without tools, and with common switches."""
    for name, messages in HISTORIES.items():
        for tools in (None, TOOLS):
            for prompt in (False, True):
                yield f"{name} tools={tools is not None} prompt={prompt}", {
                    "messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt, **TOKENS}
    for switches in ({"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True}, {"date_string": "26 Jul 2024"},
                     {"reasoning_effort": "high"}, {"preserve_thinking": True}, {"clear_thinking": False},
                     {"documents": [{"title": "T", "text": "Text."}]}):
        for name in ("turns", "think", "reasoning", "tools"):
            yield f"{name} {switches}", {"messages": HISTORIES[name], "tools": TOOLS, "documents": None,
                                         "add_generation_prompt": True, **TOKENS, **switches}
