"""How a process that computes on the CPU keeps its memory between steps.

XLA takes the temporary memory of every call from `malloc` and gives it back at the end. The C
library of Linux hands large blocks back to the kernel, which clears every page again at the next
call: measured on two cores, half of the time of a TTT layer and a quarter of a training step
(`benchmarks/ttt_layer.py`, docs/experiments/cost.md).
"""

import ctypes
import os
import platform
from pathlib import Path

import jax

# Parameters of mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER = -1


def keep_freed_memory(*, one_arena: bool = False) -> bool:
    """Keeps freed memory in this process for its next call; returns whether it could.

    `one_arena` also keeps blocks above 64 MiB that XLA's own threads take, at the price of threads
    that wait for each other, above all where they compile.

    Before the first computation only. Calls then run on the thread that makes them, as only the
    main thread's heap may grow without bound. Does nothing where the C library is another than
    glibc or where the environment sets `MALLOC_*` or `GLIBC_TUNABLES` itself.
    """
    own = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = [(M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER)] + [(M_ARENA_MAX, 1)] * one_arena
    if not all(mallopt(*setting) for setting in settings):
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def resident_bytes() -> int | None:
    """Memory that this process has now; None where the system does not say (Linux does)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
