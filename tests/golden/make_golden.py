#!/usr/bin/env python3
"""Makes models/ (weights) and expected/ (log-probabilities, training records) with transformers and PyTorch in float64.
make_families.py does so for the families beyond the first four.

    pip install -r tests/golden/requirements.txt
    python tests/golden/make_golden.py
"""

import json
import math
import pathlib
import shutil
import tempfile

import torch
import transformers
from safetensors.torch import save_file

import cases
import float64_islands

HERE = pathlib.Path(__file__).resolve().parent


def make_weights(name, config):
    """Random weights large enough to affect the scores, rounded to bfloat16: exact in every type, and half the
    bytes."""
    torch.manual_seed(sum(map(ord, name)))
    settings = transformers.AutoConfig.for_model(**{k: v for k, v in config.items() if k != "architectures"})
    model = transformers.AutoModelForCausalLM.from_config(settings)
    tensors = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        value = 1 + 0.2 * torch.randn_like(value) if "norm" in key else 0.25 * torch.randn_like(value)
        tensors[key] = value.to(torch.bfloat16).contiguous()
    folder = HERE / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def folder_of(temporary, name, weights, config):
    folder = pathlib.Path(temporary) / name
    folder.mkdir()
    shutil.copy(HERE / "models" / weights / "model.safetensors", folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def rope_of(config, settings):
    rope = dict(config.get("rope_parameters") or {"rope_theta": config.get("rope_theta")} | config["rope_scaling"])
    if "type" in rope:
        rope["rope_type"] = rope.pop("type")
    settings = dict(settings)
    if "type" in settings:
        rope = {"rope_theta": rope["rope_theta"], "rope_type": settings.pop("type")}
    return rope | settings


def log_probabilities(model, tokens):
    if len(tokens) == 1:
        return [None]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    chosen = torch.log_softmax(logits, -1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    return [None, *chosen.tolist()]


def make_scores(temporary):
    for name, (weights, config, settings) in cases.all_cases().items():
        model = float64_islands.load(folder_of(temporary, name, weights, config), rope_of(config, settings))
        scores = [log_probabilities(model, tokens) for tokens in cases.documents()]
        (HERE / "expected" / f"score_{name}.json").write_text(json.dumps(scores))
        print(name, scores[1])


def logits_of(model, tokens):
    if not isinstance(model, transformers.PreTrainedModel):
        return model(tokens)
    return model(torch.tensor([tokens])).logits[0]


def train_records(model, sequences):
    """Ten steps of AdamW: the fields that metrics.jsonl holds of each step, and norm and projection of every first
    moment after the first step."""
    settings = cases.TRAINING
    decays = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW([{"params": decays, "weight_decay": settings["weight_decay"]},
                                   {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.95), eps=1e-8)
    block = settings["micro_batch_size"] * settings["gradient_accumulation_steps"]
    steps, warmup, ratio = settings["steps"], settings["warmup_steps"], settings["min_lr_ratio"]
    records, gradients = [], {}
    for step in range(steps):
        optimizer.zero_grad()
        total, weight_sum, targets = 0.0, 0.0, 0
        for index in range(step * block, (step + 1) * block):
            # The documents of a sequence do not attend to each other, so each can be run alone.
            for tokens, weights in sequences[index % len(sequences)]:
                if len(tokens) < 2:
                    continue
                logits = logits_of(model, tokens)[:-1]
                losses = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none")
                weight = torch.tensor(weights[1:], dtype=torch.float64)
                (losses * weight).sum().backward()
                total += (losses * weight).sum().item()
                weight_sum += weight.sum().item()
                targets += int((weight != 0).sum())
        for parameter in model.parameters():
            parameter.grad /= weight_sum
        norm = math.sqrt(sum((p.grad ** 2).sum().item() for p in model.parameters()))
        clip = min(1.0, settings["max_grad_norm"] / (norm + 1e-6))
        if step == 0:
            for key, parameter in model.named_parameters():
                flat = (parameter.grad * clip * (1 - 0.9)).flatten()
                wave = torch.cos(torch.arange(flat.numel(), dtype=torch.float64))
                gradients[key] = [flat.norm().item(), (flat @ wave).item()]
        for parameter in model.parameters():
            parameter.grad *= clip
        progress = (step - warmup) / (steps - warmup)
        factor = (step + 1) / warmup if step < warmup else ratio + (1 - ratio) * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = factor * settings["learning_rate"]
        optimizer.step()
        records.append({"loss": total / weight_sum, "grad_norm": norm, "lr": factor * settings["learning_rate"],
                        "tokens": targets})
    return {"records": records, "exp_avg": gradients}


def main():
    for old in [*HERE.glob("expected/score_*.json"), *HERE.glob("expected/training_*.json")]:
        old.unlink()
    for name, config in cases.ARCHITECTURES.items():
        make_weights(name, config)
    with tempfile.TemporaryDirectory() as temporary:
        make_scores(temporary)
        for name in cases.TRAINED:
            folder = pathlib.Path(temporary) / name
            model = float64_islands.load(folder, cases.ARCHITECTURES[name]["rope_parameters"])
            records = train_records(model, cases.packed_sequences())
            (HERE / "expected" / f"training_{name}.json").write_text(json.dumps(records))
            print(name, records["records"][0], records["records"][-1])


if __name__ == "__main__":
    main()
