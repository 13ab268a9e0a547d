"""Solves CLEX's equation (2310.16450, section 3) by another method and in finer steps than the program does. Prints the
numbers that tests/model/clex_test.cpp expects. Standard library only."""
import math


def right(t, z, up, down, act, base):
    pairs, hidden = len(z), len(down)
    d, alpha = 2 * pairs, 2 * t - 1
    # d/dt of ntk's frequencies, divided by these frequencies, from their definition
    ntk = [(base * alpha ** (d / (d - 2))) ** (-2 * i / d) for i in range(pairs)]
    rate = [-2 * (2 * i) / (d - 2) * base ** (-2 * i / d) * alpha ** (-(2 * i / (d - 2) + 1)) / ntk[i] for i in range(pairs)]
    x = [z[i] + math.log(ntk[i]) for i in range(pairs)]
    h = [act(sum(x[i] * up[i][k] for i in range(pairs))) for k in range(hidden)]
    return [rate[i] + sum(h[k] * down[k][i] for k in range(hidden)) for i in range(pairs)]


def solve(pairs, hidden, stretch, act, base=10000.0, steps=4000):
    up = [[0.3 * math.sin(1 + i * hidden + k) for k in range(hidden)] for i in range(pairs)]
    down = [[0.05 * math.cos(2 + k * pairs + i) for i in range(pairs)] for k in range(hidden)]
    z = [-2 * i / (2 * pairs) * math.log(base) for i in range(pairs)]
    step = (stretch - 1) / steps
    add = lambda a, f, b: [x + f * y for x, y in zip(a, b)]
    for n in range(steps):  # the classical fourth-order method
        t = 1 + n * step
        f = lambda t, z: right(t, z, up, down, act, base)
        a = f(t, z)
        b = f(t + step / 2, add(z, step / 2, a))
        c = f(t + step / 2, add(z, step / 2, b))
        e = f(t + step, add(z, step, c))
        z = [v + step / 6 * (p + 2 * q + 2 * r + s) for v, p, q, r, s in zip(z, a, b, c, e)]
    return [math.exp(v) for v in z]


for name, act in (("tanh", math.tanh), ("silu", lambda x: x / (1 + math.exp(-x)))):
    for stretch in (2, 5):
        print(name, stretch, [f"{v:.13g}" for v in solve(4, 8, stretch, act)])
