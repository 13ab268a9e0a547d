"""Makes rows with a prompt and its completion out of documents: passages.py DOCUMENTS.jsonl ROWS.jsonl CHARACTERS

Each document is cut at white space into passages of about CHARACTERS. The first half of a passage is the prompt, the
second, which is trained, the completion. Methods that treat trained and untrained tokens differently (SkipAlign) can
then be compared on the text that the other methods train on.
"""

import json
import sys


def cut(text, size):
    """Returns the longest part of at most `size` characters that ends before white space, and the rest."""
    if len(text) <= size:
        return text, ""
    end = max(text.rfind(" ", 1, size + 1), text.rfind("\n", 1, size + 1))
    return (text[:end], text[end:]) if end > 0 else (text[:size], text[size:])


def passages(text, characters):
    while len(text) >= characters:
        prompt, text = cut(text, characters // 2)
        completion, text = cut(text, characters // 2)
        yield {"prompt": prompt, "completion": completion}


def main(documents, rows, characters):
    with open(documents) as source, open(rows, "w") as target:
        for line in source:
            for row in passages(json.loads(line)["text"], int(characters)):
                target.write(json.dumps(row) + "\n")


main(*sys.argv[1:])
