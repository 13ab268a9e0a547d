#!/usr/bin/env python3
"""Makes expected/quantization.json: some matrices quantised by bitsandbytes on a CPU (NF4 with double quantisation), as
codes and dequantised values. The formulas of quantization.py give the same codes. Of the scales, 2 in 900 differ by one
step, because bitsandbytes' CPU code does not always round to the nearest of its 256 numbers.

    pip install torch bitsandbytes numpy
    python tests/golden/make_quantization.py
"""

import json
import pathlib

import numpy

import quantization

SHAPES = ((96, 40), (33, 70), (300, 192))


def matrix(index, shape):
    generator = numpy.random.Generator(numpy.random.PCG64(index))
    return (0.05 * generator.standard_normal(shape) * (1 + 3 * (generator.random((shape[0], 1)) > 0.9))).astype(numpy.float32)


def main():
    import torch
    from bitsandbytes import functional

    records = []
    for index, shape in enumerate(SHAPES):
        ours = matrix(index, shape)
        packed, state = functional.quantize_4bit(torch.tensor(ours), blocksize=64, compress_statistics=True, quant_type="nf4")
        theirs = functional.dequantize_4bit(packed, state).numpy()
        flat = packed.numpy().reshape(-1)
        codes = numpy.stack([flat >> 4, flat & 15], axis=1).reshape(-1)[:ours.size]
        mine, scales = quantization.nf4(ours)
        scales_there = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
        print(shape, "codes that differ:", int((mine != codes).sum()), "scales, largest relative difference:",
              float(numpy.abs(scales - scales_there.numpy()).max() / scales.max()))
        records.append({"shape": shape, "codes": "".join(f"{code:x}" for code in codes),
                        "values": [float(f"{value:.8g}") for value in theirs.reshape(-1)[:: 1 + ours.size // 1000]]})
    (pathlib.Path(__file__).parent / "expected/quantization.json").write_text(json.dumps(records) + "\n")


if __name__ == "__main__":
    main()
