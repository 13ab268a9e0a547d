#!/usr/bin/env python3
"""Makes a tokenizer of SIZE tokens for the text in TRAIN.jsonl: byte-level byte-pair encoding, with id 0 as the end of a document.

    python3 launch/experiments/vocabulary.py TRAIN.jsonl OUT SIZE

The package `tokenizers` learns its merges from a sample of about 24 MB. SIZE 257 means bytes only and needs no package.
"""

import json
import pathlib
import sys

END = "<|endoftext|>"
SAMPLE_BYTES = 24e6


def byte_characters():
    """Returns GPT-2's printable character for every byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def documents(path):
    every = max(1, round(path.stat().st_size / SAMPLE_BYTES))
    with open(path) as lines:
        for number, line in enumerate(lines):
            if number % every == 0:
                yield json.loads(line)["text"]


def main():
    train, out, size = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    if size <= 257:
        end = {"id": 0, "content": END, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        vocabulary = {END: 0, **{character: byte + 1 for byte, character in enumerate(byte_characters())}}
        (out / "tokenizer.json").write_text(json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}}))
    else:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(documents(train), trainers.BpeTrainer(
            vocab_size=size, special_tokens=[END], initial_alphabet=byte_characters(), show_progress=False))
        tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "tokenizer_class": "PreTrainedTokenizerFast"}))


if __name__ == "__main__":
    main()
