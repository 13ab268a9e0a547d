#!/usr/bin/env python3
"""Makes expected/adapter_*.json: scores and ten training steps of the adapters of adapters.py, computed by PEFT,
transformers and PyTorch in float64. Fails if an adapter does not change the scores of its base.

    pip install -r tests/golden/requirements.txt
    python tests/golden/make_adapters.py [CASE…]
"""

import json
import pathlib
import sys
import tempfile

import peft
import torch

import adapters
import cases
import families
import float64_islands
from make_families import difference, log_probabilities, open_in_transformers
from make_golden import train_records

HERE = pathlib.Path(__file__).resolve().parent


class Trained:
    """The interface that train_records expects: the adapter's parameters, and the logits of one document."""

    def __init__(self, model):
        self.model = model

    def named_parameters(self):
        return [(key.replace(".default", ""), value) for key, value in self.model.named_parameters() if value.requires_grad]

    def parameters(self):
        return [value for _, value in self.named_parameters()]

    def __call__(self, tokens):
        return self.model(torch.tensor([tokens])).logits[0]


def open_base(folder, name):
    if name in cases.ARCHITECTURES:
        return float64_islands.load(folder, cases.ARCHITECTURES[name]["rope_parameters"])
    model = open_in_transformers(folder)
    float64_islands.lift(model, families.settings(families.CONFIGS[name]))
    return model


def scores_of(model, name):
    return [log_probabilities(model, tokens) for tokens in adapters.documents(name)]


def make(name, temporary):
    folder = adapters.base_folder(temporary, name)
    plain = scores_of(Trained(open_base(folder, name)), name)
    adapter = adapters.make(pathlib.Path(temporary) / f"{name}_adapter", name)
    model = Trained(peft.PeftModel.from_pretrained(open_base(folder, name), adapter, is_trainable=True))
    ours = adapters.weights(name)
    theirs = {key: value.detach().numpy() for key, value in model.named_parameters()}
    if ours.keys() != theirs.keys() or any((ours[key] != theirs[key]).any() for key in ours):
        raise SystemExit(f"{name}: PEFT reads the adapter otherwise")
    scores = scores_of(model, name)
    if difference(scores, plain) < 1e-2:
        raise SystemExit(f"{name}: the adapter changes next to nothing")
    result = {"scores": scores, "training": train_records(model, cases.packed_sequences(adapters.vocabulary(name)))}
    records = result["training"]["records"]
    print(name, f"moved {difference(scores, plain):.1e}", f"loss {records[0]['loss']:.4f} to {records[-1]['loss']:.4f}")
    (HERE / "expected" / f"adapter_{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for name in sys.argv[1:] or adapters.ADAPTERS:
            make(name, temporary)
