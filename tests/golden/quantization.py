"""Quantises matrices by the papers' formulas, in numpy alone: int8 in blocks of 64, and NF4 with double quantisation
(QLoRA, 2305.14314, section 3 and appendix E; its scales in the dynamic type of 2110.02861). Shared by the script that
compares it with bitsandbytes and the test that compares the program with it."""

from statistics import NormalDist

import numpy

BLOCK, SCALES = 64, 256


# The values of the authors' code and bitsandbytes, formed from float32 quantiles.
NF4 = numpy.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                   -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
                   0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
                   1.0], numpy.float32)


def nf4_numbers():
    """QLoRA, appendix E: quantiles of the two halves of the normal distribution, 9 numbers for the upper half, 8 for
    the lower."""
    quantile = NormalDist().inv_cdf
    offset = 0.9677083  # the paper's code: the mean of 1 - 1/30 and 1 - 1/32
    above = [quantile(p) for p in numpy.linspace(offset, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in numpy.linspace(offset, 0.5, 8)[:-1]]
    numbers = numpy.sort(numpy.array(above + [0.0] + below))
    return (numbers / numbers.max()).astype(numpy.float32)


def scale_numbers():
    """The dynamic type: a sign, a decade of 1e-6 … 1, and the midpoints of 1, 2, 4 … 64 equal parts of [0.1, 1]; also 0
    and 1."""
    numbers = [0.0, 1.0]
    for decade in range(7):
        edges = numpy.linspace(0.1, 1, 2**decade + 1)
        middles = 10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2
        numbers += [*middles, *-middles]
    return numpy.sort(numpy.array(numbers)).astype(numpy.float32)


def nearest(numbers, values):
    """Indices of the nearest numbers; of two equally near ones the lower."""
    above = numpy.clip(numpy.searchsorted(numbers, values), 1, len(numbers) - 1)
    up = numbers[above].astype(numpy.float64) - values
    down = values - numbers[above - 1].astype(numpy.float64)
    return numpy.where(up < down, above, above - 1)


def blocks_of(values, size):
    """The values as [blocks, size]; the last block is padded with zeros."""
    padded = numpy.zeros(-(-values.size // size) * size, numpy.float32)
    padded[:values.size] = values
    return padded.reshape(-1, size)


def divide(values, by):
    return numpy.divide(values, by, out=numpy.zeros_like(values), where=by != 0)


def nf4(matrix):
    """(codes, scales): a code per value, and a float32 scale per block of 64, quantised and dequantised."""
    blocks = blocks_of(matrix.astype(numpy.float32).reshape(-1), BLOCK)
    maxima = numpy.abs(blocks).max(axis=1)
    codes = nearest(NF4, divide(blocks, maxima[:, None])).reshape(-1)[:matrix.size]
    mean = numpy.float32(maxima.astype(numpy.float64).mean())
    groups = blocks_of(maxima - mean, SCALES)
    largest = numpy.abs(groups).max(axis=1)
    numbers = scale_numbers()
    chosen = numbers[nearest(numbers, divide(groups, largest[:, None]))].astype(numpy.float64)
    scales = (chosen * largest[:, None] + numpy.float64(mean)).astype(numpy.float32).reshape(-1)[:maxima.size]
    return codes, scales


def int8(matrix):
    blocks = blocks_of(matrix.astype(numpy.float32).reshape(-1), BLOCK)
    scales = (numpy.abs(blocks).max(axis=1) / numpy.float32(127)).astype(numpy.float32)
    codes = numpy.clip(numpy.rint(divide(blocks, scales[:, None])), -127, 127).reshape(-1)[:matrix.size]
    return codes, scales


def values(matrix, kind):
    """The matrix quantised and dequantised, float64."""
    codes, scales = (nf4 if kind == "nf4" else int8)(matrix)
    numbers = NF4[codes] if kind == "nf4" else codes
    wide = numpy.repeat(scales.astype(numpy.float64), BLOCK)[:matrix.size]
    return (numbers.astype(numpy.float64) * wide).reshape(matrix.shape)
