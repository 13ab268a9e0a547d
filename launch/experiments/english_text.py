#!/usr/bin/env python3
"""Extracts English text from Debian packages, for training a small model from scratch; used by launch/reproduce_language.sh.

    python3 launch/experiments/english_text.py PACKAGES OUT          PACKAGES: a folder of .deb files, from `apt-get download`
    python3 launch/experiments/english_text.py --names               lists the packages it can read
    python3 launch/experiments/english_text.py --folder TEXTS OUT    reads the .md and .txt files of a folder instead
    … --long BYTES --held-out PERCENT                                change the lengths and shares below

Writes OUT/train.jsonl, long.jsonl (the documents of train with at least LONG bytes, for fine-tuning beyond the short length),
validation.jsonl and test.jsonl, with one document ({"id", "text"}) per line, and OUT/packages.tsv: documents and bytes per package.

A document is a file: a page, a chapter, a book. Its paragraphs stay in order. A paragraph that occurred before anywhere (menus,
licences, a chapter printed twice) is dropped, so that nothing in the test set was trained on. The rest of a document is
dropped if it is short or has few of the commonest English words (tables, code, other languages). Of the documents of at least
LONG bytes (10000), 6 % are held out by a hash of their name, a third of these for validation. Needs only the standard library.
"""

import argparse
import fnmatch
import gzip
import hashlib
import html
import json
import pathlib
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib

SHORT = 2000  # bytes
COMMON = set("the of and to a in is that it for be with as on this are by not or if an from at which can will you was "
             "he his have has all they".split())
DOC = "usr/share/doc/"
# Package: patterns of its files with English text ("*" also matches "/"), and how they are read.
SOURCES = {
    "anarchism": ([DOC + "anarchism/html/*.html"], "html"),
    "apache2-doc": ([DOC + "apache2-doc/manual/en/*.html"], "html"),
    "aptitude-doc-en": ([DOC + "aptitude/html/en/*.html"], "html"),
    "bible-kjv": (["usr/bin/bible"], "bible"),  # the text is packed in bible-kjv-text; usr/bin/bible prints it
    "bible-kjv-text": (["usr/lib/bible.data*"], "bible"),
    "bind9-doc": ([DOC + "bind9-doc/arm/*.html"], "html"),
    "c++-annotations-html": ([DOC + "c++-annotations/html/*.html"], "html"),
    "debian-faq": ([DOC + "debian/FAQ/*.en.html", DOC + "debian/FAQ/*.en.txt*"], "html"),
    "debian-handbook": ([DOC + "debian-handbook/html/en-US/*.html"], "html"),
    "debian-policy": ([DOC + "debian-policy/policy.html/*.html"], "html"),
    "debian-reference-en": (["usr/share/debian-reference/*.en.html"], "html"),
    "developers-reference": (["usr/share/developers-reference/*.html"], "html"),
    "exim4-doc-html": ([DOC + "exim4-doc-html/spec_html/*.html"], "html"),
    "fortunes": (["usr/share/games/fortunes/*"], "fortunes"),
    "git-doc": ([DOC + "git-doc/*.txt"], "text"),
    "gnome-user-docs": (["usr/share/help/C/*.page"], "html"),
    "harden-doc": ([DOC + "harden-doc/html/en-US/*.html", DOC + "harden-doc/html/*.en.html"], "html"),
    "installation-guide-amd64": ([DOC + "installation-guide-amd64/en/*.html"], "html"),
    "jargon-text": ([DOC + "jargon-text/*.txt.gz"], "text"),
    "libreoffice-help-en-us": (["usr/share/libreoffice/help/en-US/text/*.html", "usr/lib/libreoffice/help/en-US/text/*.html"], "html"),
    "linux-doc-6.1": ([DOC + "linux-doc-6.1/html/_sources/*.txt"], "text"),
    "live-manual-txt": ([DOC + "live-manual/txt/*.en.txt.gz", DOC + "live-manual/txt/*en*.txt.gz"], "text"),
    "nodejs-doc": ([DOC + "nodejs/api/*.md.gz"], "text"),
    "perl-doc": (["usr/share/perl/*.pod"], "pod"),
    "postgresql-doc-15": ([DOC + "postgresql-doc-15/html/*.html"], "html"),
    "python-django-doc": ([DOC + f"python-django-doc/html/{part}/*.html" for part in
                           ("ref", "releases", "topics", "howto", "intro", "faq", "internals", "misc")], "html"),
    "python3.11-doc": ([DOC + "python3.11/html/_sources/*.txt"], "text"),
    "r-cran-janeaustenr": (["usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"], "austen"),
    "shorewall-doc": ([DOC + "shorewall-doc/html/*.htm*", DOC + "shorewall-doc/manpages/*.html"], "html"),
    "sqlite3-doc": ([DOC + "sqlite3/*.html"], "html"),
    "vim-doc": ([DOC + "vim/html/*.html"], "html"),
    "zsh-doc": ([DOC + "zsh-common/html/*.html"], "html"),
}

NOT_TEXT = re.compile(r"<!--.*?-->|<(script|style|head|nav|header|footer|svg|select|button)\b.*?</\1\s*>", re.S | re.I)
PREFORMATTED = re.compile(r"(<pre\b.*?</pre\s*>)", re.S | re.I)
BREAK = re.compile(r"</?(?:p|div|h\d|ul|ol|li|dl|dt|dd|table|tr|section|article|blockquote|hr|title|item|note|media|page)\b[^>]*>", re.I)
CELL = re.compile(r"<(?:br|/td|/th)\b[^>]*>", re.I)
TAG = re.compile(r"<[^>]*>")


def paragraphs(text):
    return [block.strip("\n").rstrip() for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").expandtabs()) if block.strip()]


def html_paragraphs(text):
    result = []
    for part in PREFORMATTED.split(NOT_TEXT.sub(" ", text)):
        if PREFORMATTED.match(part):
            result += paragraphs(html.unescape(TAG.sub("", part)))
        else:
            part = html.unescape(TAG.sub("", CELL.sub(" ", BREAK.sub("\0", part))))
            result += [block for block in (" ".join(piece.split()) for piece in part.split("\0")) if block]
    return result


def pod_paragraphs(text):
    result = []
    for block in paragraphs(text):
        if re.match(r"=(cut|over|back|encoding|begin|end|for|pod)\b", block):
            continue
        block = re.sub(r"^=\w+\s*", "", block)
        for _ in range(3):  # nested codes
            block = re.sub(r"[A-Z]<(?:([^<>|]*)\|)?([^<>]*)>", lambda code: code[1] or code[2], block)
        if block.strip():
            result.append(block)
    return result


def austen_novels(data):
    """Yields the lines of each novel in R's lazy-load database: zlib streams, each preceded by its length and containing a serialised vector."""
    while data:
        stream = zlib.decompressobj()
        raw = stream.decompress(data[4:])
        data = stream.unused_data
        # Format, three versions, length and name of the native encoding; then type 16 (strings) and their count.
        at = 18 + struct.unpack(">i", raw[14:18])[0]
        kind, count = struct.unpack(">ii", raw[at:at + 8])
        if kind & 255 != 16:
            continue
        at, lines = at + 8, []
        for _ in range(count):
            length = max(0, struct.unpack(">i", raw[at + 4:at + 8])[0])  # -1: a missing value
            lines.append(raw[at + 8:at + 8 + length].decode("utf-8", "replace"))
            at += 8 + length
        yield lines


def files_of(deb, patterns):
    reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isfile() and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                data = archive.extractfile(member).read()
                yield name, gzip.decompress(data) if name.endswith(".gz") else data
    reader.wait()


def bible_books(debs):
    """Returns one document per book, with verses but without their numbers."""
    with tempfile.TemporaryDirectory() as folder:
        for deb in debs:
            subprocess.run(["dpkg-deb", "-x", str(deb), folder], check=True)
        program = subprocess.run([f"{folder}/usr/bin/bible", "-f", "-p", f"{folder}/usr/lib"], input="gen1:1-rev22:21\n",
                                 capture_output=True, text=True, encoding="latin1")
    books = {}
    for line in program.stdout.splitlines():
        verse = re.match(r"(?:bible\(KJV\).*> ?)?([0-9]?[A-Za-z]+)(\d+):(\d+) (.*)", line)
        if verse:
            books.setdefault(verse[1], {}).setdefault(verse[2], []).append(verse[4])
    for book, chapters in books.items():
        yield book, [" ".join(verses) for verses in chapters.values()]


def package_documents(folder):
    """Yields (package, name, paragraphs) of every document, in a fixed order."""
    for package, (patterns, kind) in SOURCES.items():
        debs = sorted(folder.glob(f"{package}_*.deb"))
        if not debs:
            sys.exit(f"{package} is not in {folder}: (cd {folder} && apt-get download {package})")
        if package == "bible-kjv-text":
            for name, blocks in bible_books([debs[-1], sorted(folder.glob("bible-kjv_*.deb"))[-1]]):
                yield package, name, blocks
            continue
        for name, data in files_of(debs[-1], patterns):
            if kind == "bible":
                continue
            if kind == "austen":
                for number, lines in enumerate(austen_novels(data)):
                    yield package, f"novel {number + 1}", [" ".join(block.split()) for block in paragraphs("\n".join(lines))]
                continue
            head = data[:1000].lower()
            text = data.decode("latin1" if b"iso-8859-1" in head else "utf-8", "replace")
            if kind == "fortunes":
                if not name.endswith((".dat", ".u8")):
                    yield package, name, [block.strip("\n") for block in re.split(r"^%\n", text, flags=re.M)]
            elif kind == "pod":
                yield package, name, pod_paragraphs(text)
            elif kind == "html" and not name.endswith((".txt", ".txt.gz")):
                yield package, name, html_paragraphs(text)
            else:
                yield package, name, paragraphs(text)


def folder_documents(folder):
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".md", ".txt") and path.is_file():
            yield folder.name, str(path.relative_to(folder)), paragraphs(path.read_text(errors="replace"))


def is_english(text):
    words = re.findall(r"[a-z]+", text.lower())
    return len(words) > 50 and sum(word in COMMON for word in words) > 0.15 * len(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="?", type=pathlib.Path)
    parser.add_argument("out", nargs="?", type=pathlib.Path)
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--folder", action="store_true")
    parser.add_argument("--long", type=int, default=10000)  # more than 2048 tokens of about 4 bytes
    parser.add_argument("--held-out", type=int, default=6)
    options = parser.parse_args()
    if options.names:
        print(*SOURCES)
        return
    if not options.out:
        parser.error("where the text is, and where it goes")
    documents = (folder_documents if options.folder else package_documents)(options.packages)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    seen, table = set(), {}
    files = {name: open(out / f"{name}.jsonl", "w") for name in ("train", "long", "validation", "test")}
    for package, name, blocks in documents:
        kept = []
        for block in blocks:
            mark = hashlib.blake2b(" ".join(block.split()).encode(), digest_size=8).digest()
            if mark not in seen:
                seen.add(mark)
                kept.append(block)
        text = "\n\n".join(kept)
        size = len(text.encode())
        row = table.setdefault(package, {"train": [0, 0], "validation": [0, 0], "test": [0, 0]})
        if size < SHORT or not is_english(text):
            continue
        draw = int.from_bytes(hashlib.blake2b(f"{package} {name}".encode(), digest_size=8).digest(), "big") % 100
        part = "train" if size < options.long or draw >= options.held_out else "validation" if draw % 3 == 2 else "test"
        line = json.dumps({"id": f"{package} {name}", "text": text}) + "\n"
        files[part].write(line)
        if part == "train" and size >= options.long:
            files["long"].write(line)
        row[part][0] += 1
        row[part][1] += size
    with open(out / "packages.tsv", "w") as listing:
        listing.write("package\tdocuments\tbytes\theld out\tbytes\n")
        for package, row in table.items():
            held = [row["validation"][i] + row["test"][i] for i in (0, 1)]
            listing.write("\t".join(map(str, (package, *row["train"], *held))) + "\n")


if __name__ == "__main__":
    main()
