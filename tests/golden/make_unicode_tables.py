#!/usr/bin/env python3
"""Writes data/tokenizer/unicode_tables.cpp: the character sets that Hugging Face's `tokenizers` uses.

    pip install tokenizers==0.23.3 regex==2026.11.19 unicodedata2==18.0.0
    python tests/golden/make_unicode_tables.py

The library mixes versions of Unicode: its regular expressions use version 16 (Oniguruma 6.9.10), its Rust code 17
(lower case, numerals), its normal forms 9, its punctuation 8. This script therefore runs the library on every code
point and takes its behaviour as the definition. `regex` provides only the names of properties, and unicodedata2 the
newer normal forms that the library does not have.
"""

import base64
import pathlib
import unicodedata2

import regex
from regex import _regex_core
from tokenizers import Regex, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parents[2] / "data" / "tokenizer" / "unicode_tables.cpp"
# Planes 4 to 13 are entirely unassigned, 15 and 16 entirely private: the ends of a plane represent it.
EDGES = [c for plane in [*range(4, 14), 15, 16] for c in (plane << 16, (plane << 16) + 1, (plane << 16) + 0xFFFD, (plane << 16) + 0xFFFE,
                                                        (plane << 16) + 0xFFFF)]
POINTS = sorted([c for c in [*range(0x40000), *range(0xE0000, 0xF0000)] if not 0xD800 <= c < 0xE000] + EDGES)
NEXT = {a: b for a, b in zip(POINTS, POINTS[1:])}
ALL = "".join(map(chr, POINTS))
POSIX = ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit", "word"]
BINARY = ["Alphabetic", "ASCII_Hex_Digit", "Case_Ignorable", "Cased", "Dash", "Default_Ignorable_Code_Point", "Diacritic", "Emoji",
          "Emoji_Component", "Emoji_Modifier", "Emoji_Modifier_Base", "Emoji_Presentation", "Extended_Pictographic", "Extender",
          "Grapheme_Extend", "Hex_Digit", "ID_Continue", "ID_Start", "Ideographic", "Join_Control", "Lowercase", "Math",
          "Noncharacter_Code_Point", "Pattern_Syntax", "Pattern_White_Space", "Quotation_Mark", "Radical", "Regional_Indicator",
          "Sentence_Terminal", "Soft_Dotted", "Terminal_Punctuation", "Unified_Ideograph", "Uppercase", "Variation_Selector",
          "White_Space", "XID_Continue", "XID_Start", "Any", "Assigned"]


def ranges(members):
    """Ranges [first, last] of the members (sorted, from POINTS). Neighbours in POINTS are merged, which fills whole
    planes."""
    found = []
    for c in members:
        if found and NEXT.get(found[-1][1]) == c:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def matched(pattern):
    """The code points that a single-character pattern matches."""
    pieces = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True).pre_tokenize_str(ALL)
    return [c for text, _ in pieces for c in map(ord, text)]


def compiles(pattern):
    try:
        Regex(pattern)
        return True
    except Exception:
        return False


def mapped(normalizer, template="{}", between="\n"):
    """{code point: its text normalised}, for every code point except the separator `between`."""
    result = {}
    points = [c for c in POINTS if c != ord(between)]
    for i in range(0, len(points), 1 << 14):
        part = points[i:i + (1 << 14)]
        lines = normalizer.normalize_str(between.join(template.format(chr(c)) for c in part)).split(between)
        assert len(lines) == len(part)
        result.update(zip(part, lines))
    return result


def scripts():
    """The classes of code points between which UnicodeScripts cuts; first the class next to which it never cuts."""
    def cuts(characters):
        return {b for _, (b, _) in pre_tokenizers.UnicodeScripts().pre_tokenize_str(characters)}
    def neutral(c):  # no cut between two letters of one script, whatever the script
        return cuts("a" + c + "a") == {0} and cuts("\u03b1" + c + "\u03b1") == {0}
    never = [c for c in POINTS if neutral(chr(c))]
    rest = sorted(set(POINTS) - set(never))
    text = "".join(map(chr, rest))
    starts = sorted(cuts(text)) + [len(text)]
    runs = [rest[a:b] for a, b in zip(starts, starts[1:])]
    classes = []
    while runs:
        one = chr(runs[0][0])
        cut = cuts("".join(one + chr(run[0]) for run in runs))
        classes.append(sorted(c for k, run in enumerate(runs) if 2 * k + 1 not in cut for c in run))
        runs = [run for k, run in enumerate(runs) if 2 * k + 1 in cut]
    return [never] + classes


def number(value):
    """A variable-length integer: seven bits per byte, the lowest first; the highest bit is set if more bytes follow."""
    out = []
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return out + [value]


def packed_ranges(found):
    out, at = [], 0
    for first, last in found:
        out += number(first - at) + number(last - first)
        at = last + 1
    return out


def packed_lower(pairs):
    """Runs of [gap to the first, count - 1, step - 1, zigzag of lower - upper]; singles with one lower code point."""
    runs = []
    for upper, lower in pairs:
        delta = lower - upper
        if runs and runs[-1][3] == delta:
            first, count, step, _ = runs[-1]
            if count == 1 and upper - first <= 2 or count > 1 and upper == first + count * step:
                runs[-1] = [first, count + 1, upper - first if count == 1 else step, delta]
                continue
        runs.append([upper, 1, 1, delta])
    out, at = [], 0
    for first, count, step, delta in runs:
        out += number(first - at) + number(count - 1) + number(step - 1) + number(2 * delta if delta >= 0 else -2 * delta - 1)
        at = first
    return out


def literal(data):
    text = base64.b64encode(bytes(data)).decode()
    lines = [text[i:i + 112] for i in range(0, len(text), 112)] or [""]
    return "\n     ".join(f'"{line}"' for line in lines)


def main():
    sets = {}  # members -> names
    tried = set()

    def add(pattern, names):
        found = tuple(map(tuple, ranges(matched(pattern))))
        sets.setdefault(found, []).extend(names)

    simple = lambda name: "".join(c for c in name.lower() if c not in " -_")
    groups = [[name, f"[[:{name}:]]", [f"posix {name}"]] for name in POSIX]
    for kind in ("GENERALCATEGORY", "SCRIPT"):
        values = {}
        for alias, value in _regex_core.PROPERTIES[kind][1].items():
            values.setdefault(value, []).append(alias)
        for aliases in values.values():
            names = sorted({simple(a) for a in aliases if compiles(r"\p{%s}" % a)})
            if names:
                groups.append([names[0], r"\p{%s}" % names[0], names])
    for name in [*(n for n in POSIX if n != "word"), *BINARY]:
        if compiles(r"\p{%s}" % name):
            groups.append([name, r"\p{%s}" % name, [simple(name)]])
    for name in ["C", "L", "M", "N", "P", "S", "Z", "LC"]:
        if compiles(r"\p{%s}" % name) and not any(simple(name) in g[2] for g in groups):
            groups.append([name, r"\p{%s}" % name, [simple(name)]])
    for name, pattern, names in groups:
        names = [n for n in names if n not in tried]
        tried.update(names)
        if names:
            add(pattern, names)

    def rust(name, members):
        sets.setdefault(tuple(map(tuple, ranges(members))), []).append(f"rust {name}")

    removed = lambda pre: {c for text, _ in pre for c in map(ord, text)}
    # The class of a Rust pre-tokenizer: the characters that it isolates when each stands between two letters.
    def alone(pre, around="a"):
        members = []
        for i in range(0, len(POINTS), 1 << 13):
            part = POINTS[i:i + (1 << 13)]
            text = around + around.join(map(chr, part)) + around
            starts = {b for _, (b, e) in pre.pre_tokenize_str(text) if e - b == 1}
            members += [c for k, c in enumerate(part) if 2 * k + 1 in starts]
        return members

    rust("numeric", alone(pre_tokenizers.Digits(individual_digits=True)))
    rust("punctuation", alone(pre_tokenizers.Punctuation("isolated")))
    kept = removed(pre_tokenizers.WhitespaceSplit().pre_tokenize_str(ALL))
    rust("whitespace", [c for c in POINTS if c not in kept])
    rust("removed accent", [c for c, text in mapped(normalizers.StripAccents()).items() if text == ""])
    bert = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    clean = mapped(bert, "a{}b", "|")
    rust("bert control", [c for c, text in clean.items() if text == "ab"])
    rust("bert space", [c for c, text in clean.items() if text == "a b"])
    marks = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    rust("bert accent", [c for c, text in mapped(marks).items() if text == ""])
    chinese = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    rust("bert chinese", [c for c, text in mapped(chinese).items() if text == f" {chr(c)} "])
    for number_, members in enumerate(scripts()):
        rust(f"script {number_}", members)
    # Characters that newer Unicode decomposes or reorders but the library leaves as they are.
    opaque = set()
    for form in ("NFD", "NFKD"):
        theirs = mapped(getattr(normalizers, form)())
        opaque |= {c for c, text in theirs.items() if text != unicodedata2.normalize(form, chr(c))}
    for template in ("a\u0315{}", "a{}\u0334"):
        theirs = mapped(normalizers.NFD(), template)
        opaque |= {c for c, text in theirs.items() if text != unicodedata2.normalize("NFD", template.format(chr(c)))}
    opaque |= {ord(unicodedata2.normalize("NFD", chr(c))[0]) for c in opaque}  # nor does it compose them
    for c in sorted(opaque):
        assert normalizers.NFKD().normalize_str("a\u0315" + chr(c) + "\u0334") == "a\u0315" + chr(c) + "\u0334", hex(c)
    rust("unnormalised", sorted(opaque))

    lower = {c: text for c, text in mapped(normalizers.Lowercase()).items() if text != chr(c)}
    assert [c for c, text in lower.items() if len(text) != 1] == [0x130]
    pairs = [(c, ord(text)) for c, text in lower.items() if len(text) == 1]
    # Code points from pairs of letters that differ by case only in newer versions of Unicode.
    folds = [(c, ord(t)) for c, t in lower.items() if len(t) == 1 and chr(c).lower() == chr(c)
             and pre_tokenizers.Split(Regex("(?i)" + t), "removed").pre_tokenize_str(chr(c)) == []]

    out = ["// Made by tests/golden/make_unicode_tables.py; see unicode_tables.h for the form.",
           '#include "data/tokenizer/unicode_tables.h"', "", "namespace carillon {", "",
           "// clang-format off", "const std::vector<PackedSet>& packed_sets() {", "  static const std::vector<PackedSet> sets = {"]
    for found, names in sets.items():
        joined = ",".join(sorted(set(names)))
        out.append(f'    {{"{joined}",\n     {literal(packed_ranges(found))}}},')
    out += ["  };", "  return sets;", "}", "", f"const char* packed_lower_case() {{\n  return\n     {literal(packed_lower(pairs))};\n}}", "",
            "const std::vector<std::pair<int32_t, int32_t>>& newer_case_pairs() {",
            "  static const std::vector<std::pair<int32_t, int32_t>> pairs = {"]
    out += [f"    {{{a:#x}, {b:#x}}}," for a, b in folds] + ["  };", "  return pairs;", "}", "// clang-format on", "", "}  // namespace carillon"]
    HERE.write_text("\n".join(out) + "\n")
    print(HERE.stat().st_size, "bytes,", len(sets), "sets;", len(pairs), "lower;", len(folds), "folds")


if __name__ == "__main__":
    main()
