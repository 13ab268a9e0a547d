"""The layouts that golden tests run on: ranks and keys by name.

Some cells of a test's table (case × layout) add nothing to their neighbours. A test leaves them out unless it is
started with `--every`, as it is under the label `long`."""

import sys

EVERY = "--every" in sys.argv
if EVERY:
    sys.argv.remove("--every")

ALL = {
    "1": (1, []),
    "tp2": (2, ["parallel.tensor=2"]),
    "tp4": (4, ["parallel.tensor=4"]),
    "cp2": (2, ["parallel.context=2"]),
    "cp3": (3, ["parallel.context=3"]),
    "cp4": (4, ["parallel.context=4"]),
    "cp4 in two levels": (4, ["parallel.context=4", "parallel.ring=two_level", "parallel.ring_inner=2"]),
    "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"]),
    "dp2": (2, ["parallel.data=2"]),
    "dp2 zero2": (2, ["parallel.data=2", "parallel.zero=2"]),
}


def chosen(*names, **keys):
    """The named layouts; `keys`: additional keys of a layout, by its name with underscores for spaces."""
    return {name: (ALL[name][0], ALL[name][1] + keys.get(name.replace(" ", "_"), [])) for name in names}
