#!/usr/bin/env python3
"""Makes expected/family_*.json: scores, ten training steps and greedy continuations of the models of families.py,
computed by transformers and PyTorch in float64. Compares them with family_reference.py, which also shows that every
setting changes the scores and provides the scores with resonance.

    pip install -r tests/golden/requirements.txt
    python tests/golden/make_families.py [CASE…]
"""

import json
import math
import pathlib
import sys
import tempfile

import torch
import transformers

import cases
import families
import float64_islands
from family_reference import Reference
from make_golden import train_records

HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = (4, 11, 31)  # lengths: with NEW more tokens they stay below the windows, cross them, or begin beyond them
NEW = 12


def log_probabilities(logits_of, tokens):
    if len(tokens) == 1:
        return [None]
    with torch.no_grad():
        logits = logits_of(tokens)
    return [None, *torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()]


def scores_of(logits_of):
    return [log_probabilities(logits_of, tokens) for tokens in families.documents()]


def difference(a, b):
    return max(abs(x - y) for s, t in zip(a, b) for x, y in zip(s[1:], t[1:]))


def open_in_transformers(folder, model_class=transformers.AutoModelForCausalLM):
    return model_class.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa")


def continuations(logits_of):
    """Greedy continuations; every step runs the whole text. Fails unless the likeliest token leads clearly."""
    result = []
    for length in PROMPTS:
        tokens = families.documents()[-1][:length]
        for _ in range(NEW):
            with torch.no_grad():
                best = torch.topk(logits_of(tokens)[-1], 2)
            if best.values[0] - best.values[1] < 1e-3:
                raise SystemExit("two tokens are nearly as likely: choose other prompts")
            tokens = tokens + [int(best.indices[0])]
        result.append({"prompt": tokens[:length], "tokens": tokens[length:]})
    return result


def check_tensors(name, model):
    theirs = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del theirs["lm_head.weight"]
    if theirs != families.tensors(families.CONFIGS[name]):
        raise SystemExit(f"{name}: transformers' tensors are others")


def make(name, temporary):
    reference = Reference(name)
    own = scores_of(reference)
    scores, generated = own, continuations(reference)
    model, notes = reference, []
    if name not in families.NOT_IN_TRANSFORMERS:
        loaded = open_in_transformers(families.make(pathlib.Path(temporary) / name, name))
        check_tensors(name, loaded)
        plain = scores_of(lambda tokens: loaded(torch.tensor([tokens])).logits[0])
        for prompt in generated:
            ids = torch.tensor([prompt["prompt"]])
            theirs = loaded.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
                                     eos_token_id=None, pad_token_id=0)[0, ids.shape[1]:].tolist()
            if theirs != prompt["tokens"]:
                raise SystemExit(f"{name}: transformers' generate gives {theirs}, here {prompt['tokens']}")
        float64_islands.lift(loaded, families.settings(families.CONFIGS[name]))
        model = loaded
        scores = scores_of(lambda tokens: loaded(torch.tensor([tokens])).logits[0])
        notes.append(f"reference {difference(own, scores):.1e}, unlifted {difference(plain, scores):.1e}")
        if difference(own, scores) > 1e-11 or difference(plain, scores) > 2e-3:
            raise SystemExit(f"{name}: {notes}")
    single = scores_of(Reference(name, dtype=torch.float32))
    notes.append(f"float32 {difference(single, scores):.1e}")
    for path, value in families.CONTROLS[name]:
        moved = difference(scores_of(Reference(name, families.changed(name, path, value))), scores)
        if moved < 1e-3:
            raise SystemExit(f"{name}: {path} = {value} moves the scores by {moved:.1e} only")
        notes.append(f"{'.'.join(path)} {moved:.1e}")
    result = {"scores": scores, "generated": generated, "resonance": scores_of(Reference(name, resonance=True))}
    notes.append(f"resonance {difference(result['resonance'], scores):.1e}")
    if name in families.TRAINED:
        result["training"] = train_records(model, cases.packed_sequences(families.GEOMETRY["vocab_size"]))
        notes.append(f"loss {result['training']['records'][0]['loss']:.4f} to {result['training']['records'][-1]['loss']:.4f}")
        if model is not reference:
            again = train_records(reference, cases.packed_sequences(families.GEOMETRY["vocab_size"]))
            worst = max(abs(a[key] / b[key] - 1) for a, b in zip(again["records"], result["training"]["records"])
                        for key in ("loss", "grad_norm"))
            notes.append(f"reference's training {worst:.1e}")
            if worst > 1e-10:
                raise SystemExit(f"{name}: {notes}")
    (HERE / "expected" / f"family_{name}.json").write_text(json.dumps(result))
    print(name, *notes, sep="\n    ", flush=True)


def check_wrapper(name, temporary):
    folder = families.make(pathlib.Path(temporary) / name, name)
    model = open_in_transformers(folder, transformers.AutoModelForImageTextToText)
    float64_islands.lift(model, families.settings(families.CONFIGS[families.case_of(name)]))
    scores = scores_of(lambda tokens: model(torch.tensor([tokens])).logits[0])
    worst = difference(scores, families.expected(name)["scores"])
    print(name, f"wrapper {worst:.1e}")
    if worst > 1e-11:
        raise SystemExit(f"{name}: the wrapper scores otherwise than its text model")


def main(names):
    with tempfile.TemporaryDirectory() as temporary:
        for name in names or families.CONFIGS:
            if name not in families.WRAPPERS:
                make(name, temporary)
        for name in families.WRAPPERS:
            if not names or name in names:
                check_wrapper(name, temporary)


if __name__ == "__main__":
    main(sys.argv[1:])
