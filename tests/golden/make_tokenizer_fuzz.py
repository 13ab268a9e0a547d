#!/usr/bin/env python3
"""Makes random tokenizer.json pipelines and random texts, with the tokens that Hugging Face's `tokenizers` gives for
them.

    pip install tokenizers==0.23.3
    python tests/golden/make_tokenizer_fuzz.py                       writes tokenizers/fuzz.json
    python tests/golden/make_tokenizer_fuzz.py PROGRAM SEED ROUNDS   runs PROGRAM on many more cases

tests/data/tokenizer_fuzz_test.cpp reads the file; PROGRAM is the program of this test.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent / "tokenizers"
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
KIMI = "|".join([r"[\p{Han}]+",
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                 r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
PATTERNS = [
    LLAMA3, LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"), KIMI, KIMI.replace("&&[^\\p{Han}]", ""), r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[一-龥぀-ゟ゠-ヿ]+", r"\b", r"\B", r"\w+", r"\W", r"[\w&&[^\d]]+", r"[[:punct:]]+", r"[[:^alpha:]]", r"[[:alnum:]]{,2}", r"a{,3}", r"\h+",
    r"\H", r"\R", r"\p{^L}+", r"\P{L}", r"[^\p{Greek}\p{Cyrillic}]+", r"(?i)straße|[k-s]", r"(?i:É)", r"\d{2}+", r"\d{1,2}?", r"[0-9]++.?",
    r"^.|.$", r"(?m).+", r"\A.", r".\z", r".\Z", r"\G\p{L}", r"a\Kb|.\K ", r"(?<=\d)(?=(\d{3})+(?!\d))", r"(?<!\p{L})'", r"\p{Lu}(?=\p{Ll})", r"[\p{L}--a]",
    r"(?x) \p{L} + # letters", r"\x{1F600}|\x41|\u00e9", r"(?:(?=\w)\W|x)*", r"(\p{L})\1", r"(?<x>e)\k<x>", r"(?~ab)", r"[^\S\n]+", r"[]a]", r"[a-c[x-z]]+",
    r"\p{Alphabetic}+", r"\p{White_Space}", r"[\p{Emoji}&&[^0-9]]", r"\p{Script_Extensions}", r"\p{ L u }", r"\p{Uppercase_Letter}+", r"\s+$", r"\t| ", "", r"\N+", r"\O",
    r"(?W:\w+)", r"(?D:\d)", r"(?S:\s)", r"(?P:[[:alpha:]]+)", r"\p{Word}+", r"[\p{Word}]", r"[[:word:]]+", r"\p{Punct}", r"\p{Han}", r"\p{L}\p{M}*", r"[^a]{2,}", r"(?i)ß", r"[\x{80}-\x{ff}]"]
PARTS = [" ", " ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u180e", "\u200b", "\u0085", "'", "'s", "'LL", "a", "b", "ab", "e", "Hello", "world",
         "HELLO", "it's", "é", "e\u0301", "ß", "ẞ", "İ", "ſ", "K", "日本", "中文", "ひら", "カナ", "한국", "ไทย", "नमस्ते", "عربي", "1", "12", "123", "4567", "٣", "²", "½", "Ⅷ", "-", "--",
         "!", "…", "。", "।", "_", "(", ")", "[", "]", "\"", "$", "+", "<", "=", "^", "`", "|", "~", "😀", "👩\u200d👧", "1\ufe0f\u20e3", "🇫🇷", "\u0300", "\u0334\u0315", "ﬁ", "①", "Å", "\u212b",
         "\u0897", "\U00010d50", "\U00010d70", "\U00011382\U000113c9", "\U000105d2\u0307", "\U0001fae9", "\U0001cc00", "\ua7cb", "\ua7da", "\u1c89", "\u0558", "\x00", "\x01", "\x7f", "\ufffd", "▁", "Ġ", "x",
         "<|end|>", "<s>", "tok", "TOK", "<|x|>", " tok ", "Σς", "ΑΣ", "ǅ", "ﷺ", "\u2126", "\u0344", "가", "\u1100\u1161", "𝔘", "…\n", ".\n\n"]


def text(r):
    out = []
    for _ in range(r.choice([0, 1, 2, 5, 12, 25])):
        if r.random() < 0.9:
            out.append(r.choice(PARTS))
        else:
            c = r.choice([r.randrange(0x250), r.randrange(0x3000), r.randrange(0x20000), r.randrange(0x110000)])
            out.append(chr(c) if not 0xD800 <= c < 0xE000 else "y")
    return "".join(out)


def pattern(r):
    return {"Regex": r.choice(PATTERNS)} if r.random() < 0.8 else {"String": r.choice([" ", "a", "ab", "\n", ".", "é", "", "▁", "(", "a|b", "日"])}


def normalizer(r, deep=0):
    kind = r.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Prepend", "Replace", "Bert", "ByteLevel", "Sequence"])
    if kind == "Strip":
        return {"type": kind, "strip_left": r.random() < 0.5, "strip_right": r.random() < 0.5}
    if kind == "Prepend":
        return {"type": kind, "prepend": r.choice(["▁", "x", " "])}
    if kind == "Replace":
        return {"type": kind, "pattern": pattern(r), "content": r.choice(["▁", "", " ", "ab", "é"])}
    if kind == "Bert":
        return {"type": "BertNormalizer", "clean_text": r.random() < 0.5, "handle_chinese_chars": r.random() < 0.5,
                "strip_accents": r.choice([None, True, False]), "lowercase": r.random() < 0.5}
    if kind == "Sequence":
        return {"type": kind, "normalizers": [normalizer(r, deep + 1) for _ in range(r.randrange(4))] if deep < 2 else []}
    return {"type": kind}


def pre_tokenizer(r, deep=0):
    kind = r.choice(["Split", "Split", "Split", "Digits", "Punctuation", "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer",
                     "CharDelimiterSplit", "FixedLength", "UnicodeScripts", "Sequence"])
    if kind == "Split":
        return {"type": kind, "pattern": pattern(r), "behavior": r.choice(BEHAVIORS), "invert": r.random() < 0.3}
    if kind == "Digits":
        return {"type": kind, "individual_digits": r.random() < 0.5}
    if kind == "Punctuation":
        return {"type": kind, "behavior": r.choice(BEHAVIORS)}
    if kind == "ByteLevel":
        return {"type": kind, "add_prefix_space": r.random() < 0.4, "trim_offsets": True, "use_regex": r.random() < 0.6}
    if kind == "Metaspace":
        return {"type": kind, "replacement": r.choice(["▁", "_"]), "prepend_scheme": r.choice(["always", "first", "never"]), "split": r.random() < 0.6}
    if kind == "CharDelimiterSplit":
        return {"type": kind, "delimiter": r.choice([" ", "a", "日", "-"])}
    if kind == "FixedLength":
        return {"type": kind, "length": r.randrange(1, 6)}
    if kind == "Sequence":
        return {"type": kind, "pretokenizers": [pre_tokenizer(r, deep + 1) for _ in range(r.randrange(4))] if deep < 2 else []}
    return {"type": kind}


def decoder(r, deep=0):
    kind = r.choice(["ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "Sequence"])
    if kind == "Replace":
        return {"type": kind, "pattern": r.choice([pattern(r), {"String": "▁"}]), "content": r.choice([" ", "", "é"])}
    if kind == "Strip":  # the library fails on a token that is shorter than the characters to strip
        return {"type": kind, "content": r.choice([" ", "a"]), "start": r.choice([0, 1]), "stop": 0}
    if kind == "Metaspace":
        return {"type": kind, "replacement": r.choice(["▁", "_"]), "prepend_scheme": r.choice(["always", "first", "never"]), "split": True}
    if kind == "Sequence":
        return {"type": kind, "decoders": [decoder(r, deep + 1) for _ in range(r.randrange(1, 4))] if deep < 2 else [{"type": "Fuse"}]}
    return {"type": kind}


def post_processor(r, ids):
    token = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    template = lambda: {"type": "TemplateProcessing", "single": [token("<s>")] * r.randrange(2) + [{"Sequence": {"id": "A", "type_id": 0}}] + [token("<|x|>")] * r.randrange(2),
                        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                        "special_tokens": {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in ("<s>", "<|x|>")}}
    roberta = lambda kind: {"type": kind, "sep": ["<|x|>", ids["<|x|>"]], "cls": ["<s>", ids["<s>"]]}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    kind = r.randrange(5)
    if kind == 0:
        return level
    if kind == 1:
        return {"type": "Sequence", "processors": r.choice([[level, template()], [template(), level], [template()]])}
    if kind == 2:
        return {**roberta("RobertaProcessing"), "trim_offsets": True, "add_prefix_space": False}
    return roberta("BertProcessing") if kind == 3 else template()


def bases():
    """Two small models: a byte-level one, and one of characters with byte fallback."""
    corpus = ["".join(random.Random(i).choices(PARTS, k=200)) for i in range(20)]
    made = []
    for level in (True, False):
        tokenizer = Tokenizer(models.BPE(unk_token=None if level else "<unk>", fuse_unk=False, byte_fallback=not level))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if level else pre_tokenizers.Split(" ", "isolated")
        special = [] if level else ["<unk>"] + [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=340 if level else 420, special_tokens=special, limit_alphabet=256 if level else 90,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if level else [], show_progress=False)
        tokenizer.train_from_iterator(corpus, trainer)
        model = json.loads(tokenizer.to_str())["model"]
        model["merges"] = [" ".join(m) if " " not in "".join(m) else m for m in model["merges"]]
        made.append(model)
    return made


def pipeline(r, base, models_):
    """A tokenizer.json without the vocabulary of its model, which is that of models_[base]."""
    model = models_[base]
    changed = {} if base == 0 else {"fuse_unk": r.random() < 0.5, "byte_fallback": r.random() < 0.5, "unk_token": r.choice([None, "<unk>"])}
    changed["ignore_merges"] = r.random() < 0.3
    ids, added = {}, []
    for content in ["<s>", "<|x|>", "<|end|>", "tok", "TOK", "Hello", "é"]:
        if content in ("<s>", "<|x|>") or r.random() < 0.4:
            ids[content] = model["vocab"].get(content, len(model["vocab"]) + sum(i >= len(model["vocab"]) for i in ids.values()))
            flags = {k: r.random() < 0.25 for k in ("single_word", "lstrip", "rstrip")}
            added.append({"id": ids[content], "content": content, **flags, "normalized": r.random() < 0.4, "special": r.random() < 0.5})
    chance = lambda share, make: make() if r.random() < share else None
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": chance(0.5, lambda: normalizer(r)),
            "pre_tokenizer": chance(0.9, lambda: pre_tokenizer(r)), "post_processor": chance(0.5, lambda: post_processor(r, ids)),
            "decoder": chance(0.8, lambda: decoder(r)), "model": changed}


def cases(seed, rounds, texts, models_):
    r = random.Random(seed)
    made = []
    while len(made) < rounds:
        base = r.randrange(2)
        given = pipeline(r, base, models_)
        whole = {**given, "model": {**models_[base], **given["model"]}}
        try:
            tokenizer = Tokenizer.from_str(json.dumps(whole))
        except Exception:  # an invalid pattern
            continue
        items = []
        for one in (text(r) for _ in range(texts)):
            try:
                ids, special = (tokenizer.encode(one, add_special_tokens=s).ids for s in (False, True))
                items.append([one, ids, special, tokenizer.decode(special), tokenizer.decode(special, skip_special_tokens=False)])
            except BaseException:  # bugs of the library: an empty pattern, an empty slice
                continue
        made.append({"base": base, "pipeline": given, "texts": items})
    return made


def main():
    models_ = bases()
    if len(sys.argv) == 1:
        made = cases(1, 46, 4, models_)
        (HERE / "fuzz.json").write_text(json.dumps({"models": models_, "cases": made}, ensure_ascii=False))
        print((HERE / "fuzz.json").stat().st_size, "bytes")
        return
    program, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "fuzz.json"
        file.write_text(json.dumps({"models": models_, "cases": cases(seed, rounds, 12, models_)}, ensure_ascii=False))
        sys.exit(subprocess.run([program, "--gtest_filter=TokenizerFuzz.AsTheLibrary"], env={**os.environ, "CARILLON_TOKENIZER_FUZZ": str(file)}).returncode)


if __name__ == "__main__":
    main()
