"""Time of work done several times over."""

import statistics
import time
from collections.abc import Callable


def median_seconds(
    work: Callable[[int], None], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median time of `work(round)` after one warm-up round."""
    work(0)
    seconds = []
    for number in range(1, repeats + 1):
        start = clock()
        work(number)
        seconds.append(clock() - start)
    return statistics.median(seconds)
