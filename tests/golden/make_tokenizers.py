#!/usr/bin/env python3
"""Makes tokenizers/: tiny BPE tokenizers in the style of GPT-2, Llama 3, Qwen 2, SmolLM and Llama 2, and the tokens
that Hugging Face's `tokenizers` gives for awkward texts.

    pip install tokenizers==0.23.3
    python tests/golden/make_tokenizers.py
"""

import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent / "tokenizers"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CORPUS = ["The quick brown fox jumps over the lazy dog. It's 2024, and we've 12345 reasons; they'll say there's more.",
          "def main():\n    return [x ** 2 for x in range(10)]\n\n\nclass A:\n\tpass  # comment",
          "Über die Brücke gehen wir im Frühling, naïve café crème brûlée.", "日本語のテキストを少し。中文也有一些。 한국어도.",
          "Hello hello HELLO world worlds worldly the there then them they thing things thinking"] * 3
TEXTS = ["", " ", "Hello world", "  leading and trailing  ", "It's they'll WE'VE I'd", "1234567 3.14159 ١٢٣ ²³ Ⅷ",
         "line\nbreaks\r\n\r\n\n  \n\tand tabs", "naïve cafe\u0301 \u0041\u030a \ufb01 ½", "日本語 中文 한국어 ไทย", "emoji 😀👩‍👩‍👧🏽 🇫🇷!",
         "a\u00a0b\u2003c\u3000d\u180ee\u200bf", "<|endoftext|>", "x<|endoftext|>y <|im_start|>user\nhi<|im_end|>",
         "…!!!??? --- ___ ***", "def f(x):\n        return x\n", "\u0000\u0001\u007f", "ABCabcАБВабв", "x" * 300,
         "The quick brown fox " * 20]


def byte_level(pattern=None, digits=False):
    steps = []
    if digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if pattern:
        steps.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None))
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def train(pre_tokenizer, special, normalizer=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=False))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=special,
                                  show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def llama2():
    """A tokenizer.json that follows SentencePiece's conventions: spaces as U+2581, bytes as <0x..>."""
    special = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=special + bytes_, limit_alphabet=80, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    text = json.loads(tokenizer.to_str())
    text["added_tokens"] = [t for t in text["added_tokens"] if t["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(text))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def main():
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = {"gpt2": train(byte_level(), ["<|endoftext|>"]),
            "llama3": train(byte_level(LLAMA3), ["<|begin_of_text|>", "<|endoftext|>"]),
            "qwen2": train(byte_level(QWEN2), chat, normalizers.NFC()),
            "smollm": train(byte_level(digits=True), chat), "llama2": llama2()}
    made["llama3"].post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", 0)])])
    for name, tokenizer in made.items():
        folder = HERE / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        expected = []
        for text in TEXTS:
            ids, special = (tokenizer.encode(text, add_special_tokens=s).ids for s in (False, True))
            expected.append({"text": text, "ids": ids, "with_special": special, "decoded": tokenizer.decode(special),
                             "decoded_all": tokenizer.decode(special, skip_special_tokens=False)})
        (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
