"""What a command says on stderr while it works."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

STARTED = time.perf_counter()  # about when the command was: it imports this first


@contextlib.contextmanager
def announced(text: str) -> Iterator[None]:
    """Says what is being done and how long it took."""
    print(f"  {text} ...", end="", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        print(file=sys.stderr)
        raise
    print(f" {time.perf_counter() - start:.1f} s", file=sys.stderr)


def counted(what: str, total: int) -> Callable[[int], object]:
    """A bar; it is told how many more of `total` are done."""
    from tqdm import tqdm  # this module notes the time, before all other imports

    shown = tqdm(total=total, desc=f"  {what}", file=sys.stderr)

    def tell(done: int) -> None:
        shown.update(done)
        if shown.n >= total:
            shown.close()

    return tell
