"""The processor's roofline: element operations per second, an element operation being one min and one accumulation.

The operation needs one for every (query, key, feature) of the distances, and one of every (query, key, value feature)
of the sums. Measured on registers alone, with the vectors of the instruction set in use.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from compiler import shared_library
from timing import clock

# With AVX-512 both widths are tried: Zen 4, whose units have 256 bits, is slower at the wider one.
_FLAGS = {
    "avx512": (("-mavx512f", "-mfma"), ("-mavx2", "-mfma")),
    "avx2": (("-mavx2", "-mfma"),),
    "portable": ((),),
}
_INTEGER_FLAGS = {"avx512vnni": ("-mavx512bw", "-mavx512vnni"), "avx2": ("-mavx2",)}
_ROUNDS = 1_000_000
_SECONDS = 0.5  # for each way


def roofline(isa: str, threads: int) -> dict[str, float]:
    """Element operations per second of all `threads` together, by way of accumulating; empty without a compiler."""
    rates: dict[str, float] = {}
    for flags in _FLAGS.get(isa, ((),)):
        path = shared_library("roofline.cpp", *flags)
        if path is None:
            continue
        library = ctypes.CDLL(str(path))
        library.elements_per_round.restype = ctypes.c_int64
        elements = threads * _ROUNDS * library.elements_per_round()
        ways = {"add": (library.min_add, (1e-3,)), "multiply-add": (library.min_multiply_add, (1e-3, 1.0))}
        for name, (function, numbers) in ways.items():
            arguments = (ctypes.c_int64(_ROUNDS), *map(ctypes.c_float, numbers))
            rates[name] = max(rates.get(name, 0.0), elements / _least_seconds(function, arguments, threads))
    return rates


def integer_roofline(isa: str, threads: int) -> float:
    """The same for bytes, half of the elements being absolute differences and half min and product; 0 without either.

    Either: a compiler, and the instructions that the kernels use.
    """
    path = shared_library("roofline_integers.cpp", *_INTEGER_FLAGS[isa]) if isa in _INTEGER_FLAGS else None
    if path is None:
        return 0.0
    library = ctypes.CDLL(str(path))
    library.elements_per_round.restype = ctypes.c_int64
    arguments = (ctypes.c_int64(_ROUNDS), ctypes.c_int32(0x01020304))
    ways = (library.difference_add, library.min_dot)
    seconds = sum(_least_seconds(way, arguments, threads) for way in ways)
    return threads * len(ways) * _ROUNDS * library.elements_per_round() / seconds


def _least_seconds(function: Callable, arguments: tuple, threads: int) -> float:
    """Of one call per thread, all at once; ctypes lets go of the GIL."""
    now, end, best = clock(), time.perf_counter() + _SECONDS, float("inf")
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() < end:
            start = now()
            if threads == 1:  # in this thread, whose CPU time is counted
                function(*arguments)
            else:
                list(pool.map(lambda _: function(*arguments), range(threads)))
            best = min(best, now() - start)
    return best
