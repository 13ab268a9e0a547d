"""PyTorch's part of the comparison, one task per process: `pytorch_side.py '{"task": …}'` prints one JSON object.
compare_pytorch.py starts it and sets the threads."""

import json
import os
import resource
import statistics
import sys
import tempfile
import time

import cost


def repeat(body, least_seconds=1.5, fewest=1):
    """The median seconds of repeated calls over at least `least_seconds`; the caller does the warm-up."""
    seconds = []
    while len(seconds) < fewest or sum(seconds) < least_seconds:
        begin = time.perf_counter()
        body()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def product(task):
    """GFLOP/s of large square products: torch (oneDNN or MKL), and numpy's OpenBLAS if it has the type."""
    import numpy
    import torch

    rates = {}
    for size in (2048, 4096):
        a, b = (torch.randn(size, size).to(getattr(torch, task["dtype"])) for _ in range(2))
        bodies = {f"torch {size}": lambda: torch.mm(a, b), f"torch {size} transposed": lambda: torch.mm(a, b.t())}
        if task["dtype"] == "float32":
            x, y = a.numpy(), b.numpy()
            bodies[f"numpy {size}"] = lambda: numpy.matmul(x, y)
        for name, body in bodies.items():
            body()
            rates[name] = 2e-9 * size**3 / repeat(body, least_seconds=0.7, fewest=3)
    return {"rates": rates}


def heads(count, length, head_dim, dtype):
    """Heads in the layout of a projection's output: [1, S, heads, d], viewed as [1, heads, S, d]."""
    import torch

    return torch.randn(1, length, count, head_dim).to(dtype).transpose(1, 2)


def attention(task):
    """Causal scaled_dot_product_attention, forward, or forward and backward. Key/value heads are repeated first, as in
    transformers, because on a CPU the fused kernel requires equal head counts."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    dtype, groups = getattr(torch, task["dtype"]), task["heads"] // task["kv_heads"]

    def bodies(length):
        q, dout = (heads(task["heads"], length, task["head_dim"], dtype) for _ in range(2))
        k, v = (heads(task["kv_heads"], length, task["head_dim"], dtype) for _ in range(2))

        def forward():
            wide = (x.repeat_interleave(groups, 1) for x in (k, v))
            return scaled_dot_product_attention(q, *wide, is_causal=True)

        def inference():
            with torch.no_grad():
                forward()

        def both():
            torch.autograd.grad(forward(), (q, k, v), dout)

        if task["backward"]:
            for x in (q, k, v):
                x.requires_grad_()
        return both if task["backward"] else inference

    bodies(1024)()
    seconds = repeat(bodies(task["length"]))
    count = cost.attention_both if task["backward"] else cost.attention_forward
    return {"gflops": count(task["length"], task["heads"] * task["head_dim"]) * 1e-9 / seconds}


def make_model(task):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(**task["geometry"], max_position_embeddings=task["length"], use_cache=False,
                         attn_implementation="sdpa")
    model = LlamaForCausalLM(config)
    if task["mode"] == "bfloat16" or task.get("rank"):
        model.to(torch.bfloat16)
    if task.get("rank"):
        from peft import LoraConfig, get_peft_model

        if task["checkpointing"]:
            model.enable_input_require_grads()  # otherwise no block input requires a gradient and none is formed
        model = get_peft_model(model, LoraConfig(r=task["rank"], lora_alpha=2 * task["rank"], target_modules="all-linear"))
    if task["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def fused_adamw(parameters):
    """(optimizer, whether it is fused)."""
    import torch

    settings = {"lr": 1e-5, "betas": (0.9, 0.95), "weight_decay": 0.01}
    parameters = list(parameters)
    try:
        return torch.optim.AdamW(parameters, fused=True, **settings), True
    except RuntimeError:
        return torch.optim.AdamW(parameters, foreach=True, **settings), False


def step(task):
    """Whole training steps of LlamaForCausalLM: forward, loss, backward, clipping, AdamW. Modes: float32, autocast
    (bfloat16 over float32 weights), bfloat16 (weights, gradients and moments too). With `rank`, PEFT's LoRA on all
    linear layers of a frozen bfloat16 model; autocast then works as in transformers' Trainer with bf16=True."""
    import torch

    model = make_model(task)
    called = torch.compile(model) if task["compile"] else model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, fused = fused_adamw(trained)
    tokens = torch.randint(0, task["geometry"]["vocab_size"], (task["sequences"], task["length"]))

    seconds = []
    for _ in range(task["steps"]):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=task["mode"] == "autocast"):
            loss = called(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds, "loss": loss.item(), "fused_adamw": fused}


class ZigzagRing:
    """A straightforward ring attention with torch.distributed. Rank r holds chunks r and 2W-1-r of a causal sequence.
    Keys and values travel round the ring while the current block is computed; blocks are merged by their log-sum-exp in
    float32. In the backward pass the float32 gradients of keys and values follow them round the ring."""

    def __init__(self, group_size):
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        self.rank, self.ranks, self.groups = dist.get_rank(), dist.get_world_size(), group_size
        self.flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        self.flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

    def wide(self, x):
        return x.repeat_interleave(self.groups, 1)

    def start_exchange(self, tensors):
        """Sends to the rank below, receives from the rank above."""
        received = [self.torch.empty_like(x) for x in tensors]
        down, up = (self.rank - 1) % self.ranks, (self.rank + 1) % self.ranks
        operations = [self.dist.P2POp(self.dist.isend, x, down) for x in tensors]
        operations += [self.dist.P2POp(self.dist.irecv, x, up) for x in received]
        return received, self.dist.batch_isend_irecv(operations)

    def selection(self, hop, half):
        """(query rows, key rows, causal) of the block at `hop`; only the diagonal block contains masked pairs."""
        everything, early, late = slice(None), slice(0, half), slice(half, None)
        source = (self.rank + hop) % self.ranks
        if hop == 0:
            return everything, everything, True
        return (everything, early, False) if source < self.rank else (late, everything, False)

    def forward(self, q, k, v):
        torch, half = self.torch, q.size(2) // 2
        block, out, lse = [k, v], None, None
        for hop in range(self.ranks):
            if hop + 1 < self.ranks:
                following, requests = self.start_exchange(block)
            rows, keys, causal = self.selection(hop, half)
            part, part_lse = self.flash(q[:, :, rows], *(self.wide(x[:, :, keys]) for x in block), 0.0, causal)
            part_lse = part_lse.unsqueeze(-1)
            if out is None:
                out, lse = part.float(), part_lse.clone()
            else:
                old, old_lse = out[:, :, rows], lse[:, :, rows]
                old.sub_(torch.sigmoid(part_lse - old_lse) * (old - part.float()))
                old_lse.copy_(torch.logaddexp(old_lse, part_lse))
            if hop + 1 < self.ranks:
                for request in requests:
                    request.wait()
                block = following
        return out.to(q.dtype), lse.squeeze(-1)

    def backward(self, dout, q, k, v, out, lse):
        torch, half = self.torch, q.size(2) // 2
        block = [k, v]
        dq = torch.zeros(q.shape)
        gradients = [torch.zeros(k.shape), torch.zeros(v.shape)]  # of the current block
        for hop in range(self.ranks):
            if hop + 1 < self.ranks:
                following, requests = self.start_exchange(block)
            rows, keys, causal = self.selection(hop, half)
            wide = [self.wide(x[:, :, keys]) for x in block]
            parts = self.flash_backward(dout[:, :, rows], q[:, :, rows], *wide, out[:, :, rows], lse[:, :, rows], 0.0,
                                        causal)
            dq[:, :, rows] += parts[0]
            if hop > 0:  # receive this block's gradients with the contributions of the previous ranks
                for request in gradient_requests:
                    request.wait()
                gradients = arriving
            for whole, part in zip(gradients, parts[1:]):
                whole[:, :, keys] += part.unflatten(1, (-1, self.groups)).sum(2, dtype=torch.float32)
            if self.ranks > 1:
                leaving = gradients  # kept alive until they have arrived
                arriving, gradient_requests = self.start_exchange(leaving)
            if hop + 1 < self.ranks:
                for request in requests:
                    request.wait()
                block = following
        if self.ranks > 1:  # after the last hop the gradients are back on their own rank
            for request in gradient_requests:
                request.wait()
            gradients = arriving
        return [x.to(q.dtype) for x in (dq, *gradients)]


def ring_rank(rank, task, folder):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(task["threads_per_rank"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=task["ranks"])
    ring = ZigzagRing(task["heads"] // task["kv_heads"])
    dtype, length = getattr(torch, task["dtype"]), task["length"]
    torch.manual_seed(1)
    whole = [heads(count, length, task["head_dim"], dtype)
             for count in (task["heads"], task["kv_heads"], task["kv_heads"], task["heads"])]
    chunks = 2 * task["ranks"]
    q, k, v, dout = (torch.cat([x.chunk(chunks, 2)[i] for i in (rank, chunks - 1 - rank)], 2).contiguous()
                     for x in whole)

    def both():
        out, lse = ring.forward(q, k, v)
        result = [out, *ring.backward(dout, q, k, v, out, lse)]
        dist.barrier()
        return result

    error = difference_from_one_rank(ring, both(), whole, chunks, rank) if task.get("check") else None
    both()
    seconds = []
    for _ in range(task["passes"]):
        begin = time.perf_counter()
        both()
        seconds.append(time.perf_counter() - begin)
    if rank == 0:
        useful = cost.attention_both(length, task["heads"] * task["head_dim"])
        with open(f"{folder}/result.json", "w") as file:
            json.dump({"gflops": useful * 1e-9 / statistics.median(seconds), "error": error}, file)
    dist.destroy_process_group()


def difference_from_one_rank(ring, mine, whole, chunks, rank):
    """The largest relative difference of this rank's output and gradients from attention without a ring."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (x.detach().float().requires_grad_() for x in whole[:3])
    out = scaled_dot_product_attention(q, ring.wide(k), ring.wide(v), is_causal=True)
    expected = [out.detach(), *torch.autograd.grad(out, (q, k, v), whole[3].float())]
    distances = []
    for x, y in zip(mine, expected):
        y = torch.cat([y.chunk(chunks, 2)[i] for i in (rank, chunks - 1 - rank)], 2)
        distances.append(((x.float() - y).norm() / y.norm()).item())
    return max(distances)


def ring(task):
    import torch.multiprocessing

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(ring_rank, args=(task, folder), nprocs=task["ranks"])
        with open(f"{folder}/result.json") as file:
            return json.load(file)


def versions(task):
    import numpy
    import torch
    import transformers

    onednn = [line.strip() for line in torch.__config__.show().splitlines() if "oneDNN" in line or "MKL-DNN" in line]
    return {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__,
            "onednn": onednn[0].strip("- ") if onednn else "none", "threads": torch.get_num_threads()}


def stay_within_memory():
    """Limits this process to the available memory, so that an allocation beyond it fails here and not in another
    process."""
    with open("/proc/meminfo") as file:
        sizes = dict(line.split(":") for line in file)
    available = 1024 * int(sizes["MemAvailable"].split()[0])
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = available if hard == resource.RLIM_INFINITY else min(available, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


TASKS = {"product": product, "attention": attention, "step": step, "ring": ring, "versions": versions}

if __name__ == "__main__":
    stay_within_memory()
    request = json.loads(sys.argv[1])
    print(json.dumps(TASKS[request["task"]](request)))
