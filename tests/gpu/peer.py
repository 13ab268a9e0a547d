"""Measures PyTorch on the same device at the same shapes. bench.py runs it with the machine's own Python, alone on the
device. Prints one JSON object: {"torch", "device", "attention": [{"engine", "length", "forward_flops_per_second",
"backward_flops_per_second"}], "products": [{"rows", "inner", "columns", "flops_per_second"}], "step": {"seconds",
"tokens", …}, "not_measured": [text]}. FLOPs are counted as in `carillon bench`.

    python3 peer.py '{"device": "cuda", "seconds": 60, "lengths": [8192], "heads": 32, "kv_heads": 8, "head_dim": 128,
                      "products": [[8192, 4096, 4096]], "model": {…}, "step_length": 8192}'
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

ENGINES = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


class Peer:
    def __init__(self, wanted):
        self.wanted, self.device = wanted, wanted["device"]
        self.end = time.monotonic() + wanted["seconds"]
        self.result = {"torch": torch.__version__, "device": self.name(), "attention": [], "products": [],
                       "not_measured": []}
        torch.manual_seed(1)

    def name(self):
        return torch.cuda.get_device_name() if self.device == "cuda" else "CPU"

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work, least=0.2, most=20):
        """The median seconds of a call, after one warm-up call."""
        work()
        self.wait()
        times, begin = [], time.monotonic()
        while len(times) < 3 or (time.monotonic() - begin < least and len(times) < most):
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    def tensor(self, *shape, grad=False):
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16).requires_grad_(grad)

    def part(self, name, body):
        """Makes one measurement; an error in it becomes one line of `not_measured`."""
        if time.monotonic() > self.end:
            return self.result["not_measured"].append(f"{name}: no time left")
        try:
            return body()
        except (RuntimeError, ValueError) as error:
            self.result["not_measured"].append(f"{name}: {str(error).strip().splitlines()[0][:200]}")
            return None

    # Useful operations of causal attention, per head: 2·S²·HD forward, 5·S²·HD backward.
    def attention(self, engine, length):
        heads, groups, width = self.wanted["heads"], self.wanted["kv_heads"], self.wanted["head_dim"]
        q = self.tensor(1, heads, length, width, grad=True)
        k, v = (self.tensor(1, groups, length, width, grad=True) for _ in range(2))
        dout = self.tensor(1, heads, length, width)
        backends = [ENGINES[engine]] if self.device == "cuda" else [SDPBackend.MATH, *ENGINES.values()]

        def forward():
            with sdpa_kernel(backends):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != groups)

        def both():
            q.grad = k.grad = v.grad = None
            forward().backward(dout)
        with torch.no_grad():
            one = self.seconds(forward)
        back = max(self.seconds(both) - one, 1e-9)
        work = float(length) ** 2 * width * heads
        self.result["attention"].append({"engine": engine, "length": length, "head_dim": width,
                                         "forward_flops_per_second": 2 * work / one,
                                         "backward_flops_per_second": 5 * work / back})

    def product(self, rows, inner, columns):
        x, weight = self.tensor(rows, inner), self.tensor(columns, inner)
        with torch.no_grad():
            one = self.seconds(lambda: F.linear(x, weight))
        self.result["products"].append({"rows": rows, "inner": inner, "columns": columns,
                                        "flops_per_second": 2.0 * rows * inner * columns / one})

    def step(self):
        model = Llama(self.wanted["model"]).to(self.device, torch.bfloat16)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=self.device == "cuda")
        length = self.wanted["step_length"]
        tokens = torch.randint(self.wanted["model"]["vocab_size"], (1, length + 1), device=self.device)
        losses = []

        def work():
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss))
        seconds = self.seconds(work, least=1, most=5)
        self.result["step"] = {"seconds": seconds, "tokens": length, "tokens_per_second": length / seconds,
                               "loss": losses[-1], "peak_bytes": torch.cuda.max_memory_allocated()
                               if self.device == "cuda" else None}

    def run(self):
        for shape in self.wanted["products"]:
            self.part(f"product {shape}", lambda shape=shape: self.product(*shape))
        for length in self.wanted["lengths"]:
            for engine in ENGINES:
                self.part(f"attention {engine}, {length} tokens", lambda e=engine, n=length: self.attention(e, n))
        self.part("step", self.step)
        return self.result


class Llama(torch.nn.Module):
    """A Llama in bfloat16 whose layers are recomputed in the backward pass, as in common training setups."""

    def __init__(self, config):
        super().__init__()
        c, head = config["hidden_size"], config["head_dim"]
        self.heads, self.groups, self.head = config["num_attention_heads"], config["num_key_value_heads"], head
        linear = lambda rows, columns: torch.nn.Linear(columns, rows, bias=False)
        self.embedding = torch.nn.Embedding(config["vocab_size"], c)
        self.layers = torch.nn.ModuleList(torch.nn.ModuleDict({
            "before": torch.nn.RMSNorm(c, 1e-5), "q": linear(self.heads * head, c), "k": linear(self.groups * head, c),
            "v": linear(self.groups * head, c), "o": linear(c, self.heads * head), "between": torch.nn.RMSNorm(c, 1e-5),
            "gate": linear(config["intermediate_size"], c), "up": linear(config["intermediate_size"], c),
            "down": linear(c, config["intermediate_size"])}) for _ in range(config["num_hidden_layers"]))
        self.norm, self.out = torch.nn.RMSNorm(c, 1e-5), linear(config["vocab_size"], c)
        if config["tie_word_embeddings"]:
            self.out.weight = self.embedding.weight

    def rotated(self, x):
        length, half = x.shape[2], self.head // 2
        angle = torch.arange(length, device=x.device)[:, None] * 500000.0 ** (
            -torch.arange(half, device=x.device, dtype=torch.float32) / half)
        cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)

    def block(self, layer, x):
        batch, length, _ = x.shape
        y = layer["before"](x)
        split = lambda name, heads: layer[name](y).view(batch, length, heads, self.head).transpose(1, 2)
        q, k, v = self.rotated(split("q", self.heads)), self.rotated(split("k", self.groups)), split("v", self.groups)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.groups)
        x = x + layer["o"](y.transpose(1, 2).flatten(2))
        y = layer["between"](x)
        return x + layer["down"](F.silu(layer["gate"](y)) * layer["up"](y))

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = torch.utils.checkpoint.checkpoint(self.block, layer, x, use_reentrant=False)
        return self.out(self.norm(x))


if __name__ == "__main__":
    import torch.utils.checkpoint
    print(json.dumps(Peer(json.loads(sys.argv[1])).run()))
