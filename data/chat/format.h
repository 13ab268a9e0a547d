// Python's ways to format numbers and texts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/chat/value.h"

namespace carillon::jinja {

class Evaluator;

// "…%s…" % arguments: a tuple, a dict (for "%(name)s"), or one value.
std::string format_percent(Heap& heap, const Value& text, const Value& arguments);
// "…{}…{name!r:>8}…".format(*positional, **named); with `escape` values are escaped, as by Markup.
std::string format_braces(Evaluator& evaluator, const std::string& text, const Arguments& arguments, bool escape);
// format(value, "specification").
std::string format_value(Heap& heap, const Value& value, const std::string& specification);

// Pads to `width` code points. alignment: < > ^. With `center`, the odd space goes to the side that str.center chooses.
std::string padded(Heap& heap, std::string_view text, int64_t width, int32_t fill, char alignment, bool center);
// str.replace; charges the heap before it builds the result.
std::string bounded_replace(Heap& heap, const std::string& text, const std::string& old, const std::string& fresh,
                            int64_t count);

}  // namespace carillon::jinja
