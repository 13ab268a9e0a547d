"""All sizes: on a device, and in a rehearsal under emulation, which runs the same code in seconds."""

import dataclasses

GIB = 1 << 30


def llama(vocab, hidden, intermediate, layers, heads, kv_heads, head_dim, tied):
    return {"architecture": "llama", "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": intermediate,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "head_dim": head_dim, "tie_word_embeddings": tied, "rms_norm_eps": 1e-5}


@dataclasses.dataclass
class Binary:
    """A test program below the folder `tests` of the build, and the filter of its tests that run on a device."""
    path: str
    filter: str = "*"
    environment: dict = dataclasses.field(default_factory=dict)


# On real streams a missing wait may go unnoticed, so negative controls of that kind run only on the emulation.
ON_DEVICE = {"CARILLON_TEST_DEVICE": "cuda"}
DEVICE_TESTS = [
    Binary("runtime/runtime_backend_test", environment=ON_DEVICE),
    Binary("runtime/runtime_attention_test", environment=ON_DEVICE),
    Binary("model/model_cuda_test"),
    Binary("model/model_offload_test", "OffloadOnCuda.*-*Noticed*"),
    Binary("parallel/parallel_nccl_communicator_test"),
    Binary("parallel/parallel_ring_attention_test", "RingAttentionOnCuda.*-*Noticed*"),
]
# Ring and tensor ranks on a machine with one device: the ranks, threads of one program, share it. This does not cover
# the overlap of reductions with the backward pass, because reductions through host memory are complete when the call
# returns.
STAGED = {"CARILLON_TEST_SHARED_DEVICE": "1", "CARILLON_DEVICE_TRANSPORT": "staged"}
SHARED_TESTS = [
    Binary("parallel/parallel_ring_attention_test", "RingAttentionOnCuda.*-*Noticed*", STAGED),
    Binary("model/model_cuda_test", "TrainingOnCuda.*Layout*:TrainingOnCuda.Replicated*", STAGED),
]
NCCL_SHARED = {"CARILLON_TEST_SHARED_DEVICE": "1", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}
NCCL_SHARED_TESTS = [
    Binary("parallel/parallel_nccl_communicator_test", "Ranks/*/0", NCCL_SHARED),
    Binary("parallel/parallel_ring_attention_test", "RingAttentionOnCuda.*-*Noticed*", NCCL_SHARED),
]
REHEARSED_SHARED = [
    Binary("parallel/parallel_ring_attention_test", "RingAttentionOnCuda.Equals*", STAGED),
    Binary("model/model_cuda_test", "TrainingOnCuda.Replicated*", STAGED),
]
REHEARSED_TESTS = [
    Binary("runtime/runtime_backend_test", "*RmsNorm*:*Embedding*", ON_DEVICE),
    Binary("runtime/runtime_attention_test", "*NotANumber*:*KeysBehind*", ON_DEVICE),
    Binary("model/model_cuda_test", "*BFloat16OnTensorCores"),
    Binary("model/model_offload_test", "OffloadOnCuda.*-*Noticed*"),
    Binary("parallel/parallel_nccl_communicator_test"),
    Binary("parallel/parallel_ring_attention_test", "RingAttentionOnCuda.Equals*"),
]


@dataclasses.dataclass
class Long:
    """A geometry for the longest context, and the alternative if it does not fit."""
    name: str
    model: dict
    alternative: "Long | None" = None


LLAMA_3B = llama(128256, 3072, 8192, 28, 24, 8, 128, True)
LLAMA_1B = llama(128256, 2048, 8192, 16, 32, 8, 64, True)
LLAMA_8B = llama(128256, 4096, 14336, 32, 32, 8, 128, False)


@dataclasses.dataclass
class Sizes:
    tests: list
    shared_tests: list  # tests of ranks that share one device
    # The small subset for compute-sanitizer: (program, filter).
    sanitized: list
    # For Nsight Compute: (kernel, program, a test that launches the kernel).
    profiled: list
    # Training compared with the CPU.
    model: dict
    length: int
    sequences: int  # per step
    steps: int      # in bfloat16
    few: int        # steps in float32 and float64, and in each half of the resumed run
    learning_rate: float
    # bench
    bench_seconds: float
    bench_longest: int
    peer_lengths: list  # lengths of PyTorch's attention
    peer_model: dict    # geometry of the step that both sides train
    peer_step: int      # tokens of this step
    # The longest context.
    geometries: list
    mlp_tile: int
    grain: int                # lengths are multiples of it
    start_seconds: float      # from the start of the program to its first step, for a billion parameters
    longest_step: float       # seconds that a step may take, predicted by the plan and the pace measured so far
    length_cap: int | None    # in a rehearsal, where the plan predicts the times of a GPU
    emulation: str = ""


DEVICE = Sizes(
    tests=DEVICE_TESTS, shared_tests=SHARED_TESTS,
    sanitized=[("runtime/runtime_backend_test", "*RmsNorm*:*CrossEntropy*:*Embedding*:*AdamW*"),
               ("runtime/runtime_attention_test", "*KeysBehind*:*NotANumber*")],
    profiled=[("forward_kernel", "runtime/runtime_attention_test", "*KeysBehind*"),
              ("keys_kernel", "runtime/runtime_attention_test", "*KeysBehind*"),
              ("queries_kernel", "runtime/runtime_attention_test", "*KeysBehind*"),
              ("swiglu", "runtime/runtime_backend_test", "*SwiGlu*:*Swiglu*"),
              ("adamw", "runtime/runtime_backend_test", "*AdamW*")],
    model=llama(512, 256, 704, 4, 4, 2, 64, True), length=256, sequences=8, steps=50, few=6, learning_rate=2e-3,
    bench_seconds=45, bench_longest=131072, peer_lengths=[8192, 32768, 131072], peer_model=LLAMA_1B, peer_step=8192,
    geometries=[Long("1B", LLAMA_1B), Long("8B", LLAMA_8B, Long("3B", LLAMA_3B, Long("1B", LLAMA_1B)))],
    mlp_tile=8192, grain=1024, start_seconds=8, longest_step=22, length_cap=None)

TINY = llama(64, 64, 64, 2, 1, 1, 64, True)
REHEARSAL = Sizes(
    tests=REHEARSED_TESTS, shared_tests=REHEARSED_SHARED,
    sanitized=[("runtime/runtime_backend_test", "*RmsNorm*float32*")],
    profiled=[("adamw", "runtime/runtime_backend_test", "*AdamW*")],
    model=llama(32, 64, 64, 1, 1, 1, 64, True), length=32, sequences=2, steps=50, few=6, learning_rate=2e-3,
    bench_seconds=0.1, bench_longest=16, peer_lengths=[16], peer_model=TINY, peer_step=32,
    geometries=[Long("tiny", TINY),
                # 4 billion parameters in one layer: too large, so the rehearsal covers the alternative.
                Long("too large", llama(64, 32768, 32768, 1, 1, 1, 64, True), Long("tiny again", TINY))],
    mlp_tile=64, grain=64, start_seconds=1, longest_step=5, length_cap=128,
    # One device, with only as much memory as a rehearsal can use.
    emulation="devices=1,memory=512")
