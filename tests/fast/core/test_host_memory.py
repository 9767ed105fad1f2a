"""Freed memory is kept where glibc allows it and the environment has not chosen otherwise."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys
from tttlrm_jax.core.host_memory import keep_freed_memory
kept = keep_freed_memory(one_arena=sys.argv[1] == "one")
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**27)
    libc.memset(block, 1, 2**27)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is no glibc")


def run(arenas: str, **more: str) -> tuple[bool, int]:
    """Whether memory is kept, and page faults of taking 128 MiB for the second time."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arenas], env=own | more, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@glibc
@pytest.mark.parametrize("arenas", ["default", "one"])
def test_memory_is_kept(arenas):
    kept, faults = run(arenas)
    assert kept
    assert faults < 100


@glibc
def test_own_settings_of_the_environment_win():
    kept, faults = run("default", MALLOC_TRIM_THRESHOLD_="131072")
    assert not kept
    assert faults > 1000
