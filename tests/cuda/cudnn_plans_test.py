"""Checks, without a device, which shapes cuDNN's attention supports on which architecture: libcarillon_cudnn.so makes
the graphs for device properties given as JSON. Only this test has the toolkit's stub of libcuda.so.1 in its library
path."""

import ctypes
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LIBRARY, STUB = os.environ["CARILLON_CUDNN_REAL"], pathlib.Path(os.environ["CUDA_STUB"])
MARK = "CARILLON_CUDNN_PLANS_INSIDE"

# The device properties that cuDNN needs (names and values as in its own JSON).
COMMON = {"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536,
          "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
          "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
          "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1,
          "cudaDeviceId": 0, "driverVer": 13000}
DEVICES = {
    90: {**COMMON, "multiProcessorCount": 132, "totalGlobalMem": 85 * 10**9, "smClockRateKHz": 1980000,
         "memClockRateKHz": 2619000, "l2CacheSize": 52428800, "deviceVer": 900, "deviceName": "NVIDIA H100 80GB HBM3"},
    100: {**COMMON, "multiProcessorCount": 148, "totalGlobalMem": 190 * 10**9, "smClockRateKHz": 1965000,
          "memClockRateKHz": 3996000, "l2CacheSize": 132644864, "deviceVer": 1000, "deviceName": "NVIDIA B200"},
}


class Plans(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.library = ctypes.CDLL(LIBRARY)
        cls.library.carillon_cudnn_plans.restype = ctypes.c_int64

    def plans(self, architecture, rows, keys, head_size, causal, backward, heads=32, kv_heads=8):
        why = ctypes.create_string_buffer(1024)
        count = self.library.carillon_cudnn_plans(
            ctypes.c_int(architecture), json.dumps(DEVICES[architecture]).encode(), ctypes.c_int64(1),
            ctypes.c_int64(rows), ctypes.c_int64(keys), ctypes.c_int(heads), ctypes.c_int(kv_heads),
            ctypes.c_int(head_size), ctypes.c_int(causal), ctypes.c_int(backward), why, ctypes.c_int64(len(why)))
        return count, why.value.decode()

    def test_the_shapes_of_training_have_plans(self):
        for architecture in DEVICES:
            for head_size in (64, 128):
                # A rank's own keys; half of another rank's keys, used by all rows of a zigzag ring or by their late
                # half; blocks of a backward pass, and the remainder of a length; sizes that are no multiples of a tile.
                for rows, keys, causal in ((8192, 8192, 1), (8192, 4096, 0), (4096, 4096, 0), (4096, 4096, 1),
                                           (4056, 4056, 1), (4096, 904, 0), (904, 4096, 0)):
                    for backward in (0, 1):
                        with self.subTest(f"sm_{architecture} {rows}x{keys} of {head_size}", causal=causal, backward=backward):
                            count, why = self.plans(architecture, rows, keys, head_size, causal, backward)
                            self.assertGreater(count, 0, why)

    def test_what_has_none_is_refused_with_a_reason(self):
        for architecture in DEVICES:
            for head_size, heads, kv_heads in ((60, 32, 8), (64, 32, 5)):  # no multiple of 8; no divisor of the heads
                count, why = self.plans(architecture, 4096, 4096, head_size, 0, 0, heads, kv_heads)
                self.assertEqual(count, 0)
                self.assertTrue(why)


def main():
    if os.environ.get(MARK) == "1":
        unittest.main(verbosity=2)
    if not LIBRARY or not STUB.exists():
        print(f"skipped: {'no libcarillon_cudnn.so' if not LIBRARY else 'the toolkit has no stub of libcuda'}")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(STUB, pathlib.Path(folder) / "libcuda.so.1")
        path = os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")]))
        sys.exit(subprocess.run([sys.executable, __file__], env={**os.environ, MARK: "1", "LD_LIBRARY_PATH": path}).returncode)


if __name__ == "__main__":
    main()
