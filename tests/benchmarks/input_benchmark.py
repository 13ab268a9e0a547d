#!/usr/bin/env python3
"""Measures how fast data and models are read and checkpoints are written, each compared with a reference on this
machine:

    tokenising   `carillon tokenize` (the whole command) against Hugging Face's encode_batch (the call alone)
    import       `carillon import` of a random Llama of about 1 GB against dd of the same bytes
    checkpoints  save_checkpoint and load_checkpoint (checkpoint_benchmark) against dd with fsync and dd from the disk

    cmake --build build --target carillon checkpoint_benchmark
    python tests/benchmarks/input_benchmark.py [--folder SCRATCH] [--only tokenize,import,checkpoint]

Needs tokenizers and numpy. Both sides run in turns. Prints a Markdown table: medians for the tokenisers; for the disk
the best, then the median, because a virtual disk is slow (a fifth of the speed here) on blocks used for the first time,
for any writer.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import struct
import subprocess
import sys
import sysconfig
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MIB = 1 << 20
ROWS = []
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def row(what, ours, theirs, reference, best=False):
    """Prints a row of the table from the rates of all runs in MiB/s."""
    typical = [statistics.median(rates) for rates in (ours, theirs)]
    top = [max(rates) for rates in (ours, theirs)]
    if best:
        values = [f"{t:.0f} ({m:.0f})" for t, m in zip(top, typical)] + [f"{top[0] / top[1]:.2f}"]
    else:
        values = [f"{m:.1f}" for m in typical] + [f"{typical[0] / typical[1]:.1f}"]
    ROWS.append(f"| {what} | {values[0]} | {values[1]} | {reference} | {values[2]} |")
    print(ROWS[-1], flush=True)


def seconds(command, **more):
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, **more)
    taken = time.monotonic() - begin
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return taken


def forget(*paths):
    """Drops the files from the page cache, so the next read comes from the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def texts_of_this_machine(most):
    """Installed documentation and sources of this machine: prose, markup and code in several languages."""
    folders = ["/usr/share/doc", "/usr/share/common-licenses", *map(sysconfig.get_path, ("stdlib", "purelib"))]
    texts, size = [], 0
    for folder in folders:
        share = 0
        for path in sorted(pathlib.Path(folder).rglob("*")):
            known = path.suffix in (".py", ".txt", ".md", ".rst", ".html", "")
            if not known or path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()[:256 << 10].replace(b"\0", b"")
            text = data.decode("utf-8", "ignore")
            if len(text) < 200 or len(data) - len(text.encode()) > 8:
                continue
            texts.append(text)
            size, share = size + len(data), share + len(data)
            if share > most // 2 or size > most:
                break
    return texts


def train_tokenizer(kind, texts, path):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    if kind == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = LLAMA3 if kind == "llama3" else LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        if kind == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=32000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(texts[::4], trainer)
    tokenizer.save(str(path))


def tokenize(carillon, folder, kinds, repeats):
    from tokenizers import Tokenizer
    jsonl, whole = folder / "corpus.jsonl", folder / "corpus.txt"
    if not jsonl.exists():
        texts = texts_of_this_machine(64 * MIB)
        jsonl.write_text("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
        whole.write_text("".join(texts)[:16 * MIB])
    texts = [json.loads(line)["text"] for line in jsonl.open()]
    one = [whole.read_bytes().decode()]
    for kind in kinds:
        path = folder / kind / "tokenizer.json"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            train_tokenizer(kind, texts, path)
        theirs = Tokenizer.from_file(str(path))
        for name, file, documents in (("documents", jsonl, texts), ("one text", whole, one)):
            size = sum(len(t.encode()) for t in documents) / MIB
            rates = ([], [], [])
            for _ in range(repeats):
                command = [carillon, "tokenize", file, f"tokenizer={path}", f"output={folder / 'tokens.h5'}"]
                rates[0].append(size / seconds(command))
                begin = time.monotonic()
                encoded = theirs.encode_batch(documents, add_special_tokens=True)
                rates[1].append(size / (time.monotonic() - begin))
                begin = time.monotonic()
                theirs.encode_batch_fast(documents, add_special_tokens=True)  # without offsets
                rates[2].append(size / (time.monotonic() - begin))
            check_tokens(folder / "tokens.h5", encoded)
            row(f"tokenize, {kind}, {name}", rates[0], rates[1], "encode_batch")
            row(f"tokenize, {kind}, {name}", rates[0], rates[2], "encode_batch_fast")


def check_tokens(path, encoded):
    """Checks that the last run's tokens equal Hugging Face's, if h5py is installed."""
    try:
        import h5py
        import numpy
    except ImportError:
        return
    with h5py.File(path) as file:
        expected = numpy.concatenate([numpy.array(e.ids, dtype=numpy.uint32) for e in encoded])
        assert numpy.array_equal(file["tokens"][:], expected), "the two tokenizers differ"


def make_model(folder):
    """Writes a Hugging Face folder: Llama geometry, 0.52 billion bfloat16 parameters of random bits."""
    import numpy
    folder.mkdir(exist_ok=True)
    hidden, inner, layers, heads, groups, vocabulary = 1536, 4096, 18, 24, 8, 32000
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
              "rms_norm_eps": 1e-5, "intermediate_size": inner, "num_hidden_layers": layers,
              "num_attention_heads": heads, "rope_theta": 10000.0,
              "num_key_value_heads": groups, "vocab_size": vocabulary, "max_position_embeddings": 4096,
              "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "lm_head.weight": [vocabulary, hidden],
              "model.norm.weight": [hidden]}
    keys = hidden // heads * groups
    for i in range(layers):
        for name, shape in (("self_attn.q_proj", [hidden, hidden]), ("self_attn.k_proj", [keys, hidden]),
                            ("self_attn.v_proj", [keys, hidden]), ("self_attn.o_proj", [hidden, hidden]),
                            ("mlp.gate_proj", [inner, hidden]), ("mlp.up_proj", [inner, hidden]),
                            ("mlp.down_proj", [hidden, inner]), ("input_layernorm", [hidden]),
                            ("post_attention_layernorm", [hidden])):
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = numpy.random.default_rng(1)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            file.write((random.integers(0, 1 << 16, size // 2, dtype=numpy.uint16) & 0xBFFF).tobytes())  # no NaN


def import_model(carillon, folder, repeats):
    weights = folder / "model" / "model.safetensors"
    if not weights.exists():
        make_model(folder / "model")
    size = weights.stat().st_size / MIB
    output, copy = folder / "model.h5", folder / "copy.bin"
    for cache in ("warm", "cold"):
        rates = ([], [])
        for _ in range(2 * repeats):
            for commands, rate in (([carillon, "import", weights.parent, output], rates[0]),
                                   (["dd", f"if={weights}", f"of={copy}", "bs=4M", "conv=fsync"], rates[1])):
                if cache == "cold":
                    forget(weights)
                rate.append(size / seconds(commands))
        row(f"import, {size / 1024:.2f} GiB, {cache} cache", *rates, "dd, copy with fsync", best=True)
    output.unlink(), copy.unlink()


def checkpoint(build, folder, repeats):
    """Runs in turns: a save, a dd of as many zeros, and reading both back from the disk. Both sides write a new file in
    a new folder and keep two, because the file system allocates blocks by folder."""
    program, target = build / "tests/benchmarks/checkpoint_benchmark", folder / "checkpoints"
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    shutil.rmtree(target, ignore_errors=True)
    for ranks in (1, 2):
        rates = [[] for _ in range(6)]
        for turn in range(2 * repeats):
            command = [str(program), str(target), str(100 * ranks + turn)]
            if ranks > 1:  # a lone process is not bound to a core
                command = ["mpirun", "-n", str(ranks), *command]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            size, *times = map(float, re.search(r"^RESULT (.*)$", done.stdout, re.M)[1].split())
            for rate, taken in zip(rates, times):
                rate.append(size / taken)
            zeros, block = target / f"zeros-{turn % 2}" / "zeros.bin", (4, 1, 16)[turn % 3]
            shutil.rmtree(zeros.parent, ignore_errors=True)
            zeros.parent.mkdir()
            os.sync()
            write = ["dd", "if=/dev/zero", f"of={zeros}", f"bs={block}M", f"count={int(size) // block}"]
            rates[3].append(size / seconds([*write, "conv=fsync"]))
            forget(zeros)
            rates[4].append(size / seconds(["dd", f"if={zeros}", "of=/dev/null", f"bs={block}M"]))
            rates[5].append(size / seconds([*write, "conv=fsync,notrunc"]))
        name = f"{size / 1024:.2f} GiB, {ranks} rank{'s' * (ranks > 1)}"
        row(f"checkpoint write, {name}", rates[0], rates[3], "dd conv=fsync, bs=1M, 4M, 16M in turn", best=True)
        row(f"its tensors again, in place, {name}", rates[2], rates[5], "the same, conv=fsync,notrunc", best=True)
        row(f"checkpoint read, cold, {name}", rates[1], rates[4], "dd, cold, the same sizes", best=True)
        shutil.rmtree(target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=SOURCE / "build")
    parser.add_argument("--folder", type=pathlib.Path, default=SOURCE / "runs/input_benchmark",
                        help="scratch, about 10 GiB")
    parser.add_argument("--only", default="tokenize,import,checkpoint")
    parser.add_argument("--tokenizers", default="gpt2,llama3,qwen2")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in options.only.split(","):
        if part == "tokenize":
            tokenize(options.build / "carillon", options.folder, options.tokenizers.split(","), options.repeats)
        elif part == "import":
            import_model(options.build / "carillon", options.folder, options.repeats)
        else:
            checkpoint(options.build, options.folder, options.repeats)
    print("\n| what, MiB/s | carillon | reference | of | ratio |\n|---|---|---|---|---|\n" + "\n".join(ROWS))


if __name__ == "__main__":
    main()
