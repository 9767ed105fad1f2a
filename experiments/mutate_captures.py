"""Damaged captures through the readers: each is answered or refused in one sentence.

    python -m experiments.mutate_captures --count 10000 --workers 2

A made scene of six small pictures is written in every form of `capture_forms` and
`sequence_forms`. Each try takes one form, damages one to three of its files (bytes, numbers, names,
lines, whole files), and reads it as a command does: of a capture the cameras, the choice of inputs,
the pixels of three frames; of a sequence all frames with depth and poses. Tries run in worker
processes with limits of time and memory; one that is over them, or that raises anything but an
`InputError` of one line, is a failure and is listed. A try is known by its number alone.
"""

import argparse
import collections
import dataclasses
import json
import multiprocessing
import re
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from experiments.capture_forms import WRITERS, MadeScene
from experiments.sequence_forms import SEQUENCE_WRITERS
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.sequences.readers import open_sequence

SECONDS, MEMORY = 20.0, 2**30  # of one try; bytes beyond what a worker has at its start
STARTING = 300.0  # seconds for a worker to begin
LONGEST = 2000  # characters of a refusal
WILD_NUMBERS = (
    "nan", "inf", "-inf", "0", "-1", "1e308", "1e-308", "-0.0", "2147483648", "9" * 400, "1_0", "",
    "abc", "null", "true", "[]", "{}", '"7"', "\u0663", "\u00b2", "1,5", "0x10", "1e400", "99999",
)  # fmt: skip
WILD_TEXTS = (
    "", " ", ".", "..", "/", "a\0b", "x" * 5000, "images", "../../etc", "\u2460.png",
    "C:\\a\\b.png", "000001.png", "\ufeff", "\n", "#", "<", "\u202e",
)  # fmt: skip
WILD_DOUBLES = (np.nan, np.inf, -np.inf, 0.0, 1e308, -1.0, 5e-324)
WILD_COUNTS = (0, 1, 2**31, 2**63, 2**64 - 1)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
NAME = re.compile(r"[\w./-]+\.png|[A-Za-z_]\w{2,}")
BINARY = (".bin", ".npy", ".npz", ".png")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one try: `answered`, `refused`, or a kind of failure with its words."""

    number: int
    form: str
    kind: str
    words: str = ""
    seconds: float = 0.0
    peak: int = 0  # bytes that the process had at most so far

    @property
    def is_failure(self) -> bool:
        return self.kind not in ("answered", "refused")


# ---- damage -------------------------------------------------------------------------------------

Damage = Callable[[np.random.Generator, bytes], bytes]


def flip_bits(rng: np.random.Generator, content: bytes) -> bytes:
    out = bytearray(content)
    for place in rng.integers(0, max(len(out), 1), rng.integers(1, 9)) if out else ():
        out[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(out)


def cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: int(rng.integers(0, len(content) + 1))]


def remove_span(rng: np.random.Generator, content: bytes) -> bytes:
    start = int(rng.integers(0, len(content) + 1))
    return content[:start] + content[start + int(rng.integers(1, 200)) :]


def repeat_span(rng: np.random.Generator, content: bytes) -> bytes:
    start = int(rng.integers(0, len(content) + 1))
    span = content[start : start + int(rng.integers(1, 200))]
    return content[:start] + span * int(rng.integers(1, 50)) + content[start:]


def insert_noise(rng: np.random.Generator, content: bytes) -> bytes:
    start = int(rng.integers(0, len(content) + 1))
    return content[:start] + rng.bytes(int(rng.integers(1, 64))) + content[start:]


def other_encoding(rng: np.random.Generator, content: bytes) -> bytes:
    """UTF-16 or 32, a byte order mark, ends of lines of other systems."""
    text = content.decode("utf-8", errors="replace")
    choice = int(rng.integers(0, 5))
    if choice == 0:
        return b"\xef\xbb\xbf" + content
    if choice == 1:
        return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b"\x0b"]))
    return text.encode(("utf-16", "utf-32", "utf-7")[choice - 2], errors="replace")


def _replaced(rng: np.random.Generator, content: bytes, pattern: re.Pattern, wild) -> bytes:
    text = content.decode("utf-8", errors="surrogateescape")
    found = list(pattern.finditer(text))
    if not found:
        return flip_bits(rng, content)
    match = found[int(rng.integers(0, len(found)))]
    new = wild[int(rng.integers(0, len(wild)))]
    text = text[: match.start()] + new + text[match.end() :]
    return text.encode("utf-8", errors="surrogateescape")


def change_number(rng: np.random.Generator, content: bytes) -> bytes:
    return _replaced(rng, content, NUMBER, WILD_NUMBERS)


def change_name(rng: np.random.Generator, content: bytes) -> bytes:
    return _replaced(rng, content, NAME, WILD_TEXTS)


def move_lines(rng: np.random.Generator, content: bytes) -> bytes:
    """A line is removed, doubled or exchanged with another."""
    lines = content.split(b"\n")
    one, two = rng.integers(0, len(lines), 2)
    choice = int(rng.integers(0, 3))
    if choice == 0:
        del lines[one]
    elif choice == 1:
        lines.insert(one, lines[two])
    else:
        lines[one], lines[two] = lines[two], lines[one]
    return b"\n".join(lines)


def change_double(rng: np.random.Generator, content: bytes) -> bytes:
    """Eight bytes become a wild number or count."""
    if len(content) < 8:
        return flip_bits(rng, content)
    start = int(rng.integers(0, len(content) - 7))
    if rng.random() < 0.5:
        new = np.array(WILD_DOUBLES[int(rng.integers(0, len(WILD_DOUBLES)))], "<f8").tobytes()
    else:
        new = np.array(WILD_COUNTS[int(rng.integers(0, len(WILD_COUNTS)))], "<u8").tobytes()
    return content[:start] + new + content[start + 8 :]


def nest(rng: np.random.Generator, content: bytes) -> bytes:
    """Brackets or elements within one another, many times."""
    depth = int(rng.integers(10, 20000))
    start = int(rng.integers(0, len(content) + 1))
    opened = (b"[", b'{"a":', b"<a>")[int(rng.integers(0, 3))]
    return content[:start] + opened * depth + content[start:]


BYTES: tuple[Damage, ...] = (flip_bits, cut, remove_span, repeat_span, insert_noise)
FIELDS: tuple[Damage, ...] = (
    change_number,
    change_number,
    change_name,
    move_lines,
    other_encoding,
    nest,
)


def damage(rng: np.random.Generator, root: Path) -> None:
    """Damages one file; one time in ten a whole file is removed, exchanged or made a folder."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if not files:
        return
    plain = [path for path in files if path.suffix != ".png"] or files
    pool = files if rng.random() < 0.15 else plain
    path = pool[int(rng.integers(0, len(pool)))]
    if rng.random() < 0.1:
        _damage_whole(rng, path, files[int(rng.integers(0, len(files)))])
        return
    kinds = (*BYTES, change_double) if path.suffix in BINARY else (*BYTES, *FIELDS, *FIELDS)
    kind = kinds[int(rng.integers(0, len(kinds)))]
    path.write_bytes(kind(rng, path.read_bytes()))


def _damage_whole(rng: np.random.Generator, path: Path, other: Path) -> None:
    choice = int(rng.integers(0, 4))
    content = other.read_bytes()
    if choice == 0:
        path.unlink()
    elif choice == 1:
        path.write_bytes(content)
    elif choice == 2:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"")


# ---- one try ------------------------------------------------------------------------------------


def made_scene() -> MadeScene:
    """Six pictures of 20 x 16 pixels from cameras on a circle around the origin."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 16, 20, 3), np.uint8)
    poses = np.tile(np.eye(4), (6, 1, 1))
    for number, angle in enumerate(np.linspace(0, 2, 6)):
        c, s = np.cos(angle), np.sin(angle)
        # columns: right, down, forward; the world has z up
        poses[number, :3, :3] = np.array([[-s, 0, -c], [c, 0, -s], [0, -1, 0]])
        poses[number, :3, 3] = [2 * c, 2 * s, 0.1 * number]
    return MadeScene(images, poses, (18.0, 18.0, 10.0, 8.0))


def attempt(number: int, seed: int, folder: Path, scene: MadeScene) -> Outcome:
    """One try in `folder`, which it empties."""
    rng = np.random.default_rng([seed, number])
    forms = [*WRITERS, *SEQUENCE_WRITERS]
    form = forms[int(rng.integers(0, len(forms)))]
    root = folder / "capture"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    write = SEQUENCE_WRITERS[form] if form in SEQUENCE_WRITERS else WRITERS[form].write
    write(root, scene)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        damage(rng, root)
    start = time.perf_counter()
    kind, words = _read(root, use_sequence if form in SEQUENCE_WRITERS else use_capture)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Outcome(number, form, kind, words, time.perf_counter() - start, peak)


def _read(root: Path, use: Callable[[Path], None]) -> tuple[str, str]:
    """How reading ends, and its words."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of NumPy: a number got through
        try:
            use(root)
        except InputError as error:
            words = str(error)
            right = words and "\n" not in words and len(words) <= LONGEST
            return ("refused" if right else "not one sentence"), words
        except MemoryError:
            return "memory", traceback.format_exc()
        except Exception as error:  # whatever it is, it is a find
            return type(error).__name__, traceback.format_exc()
    return "answered", ""


def use_sequence(root: Path) -> None:
    """What a command asks of a sequence before it computes."""
    for _ in open_sequence(root).frames():
        pass


def use_capture(root: Path) -> None:
    """What a command asks of a capture before it computes."""
    capture = read_capture(root)
    inputs, targets = capture.split(min(2, len(capture) - 1))
    load_views(capture, [*inputs[:2], *targets[:1]], 16, 16)
    capture.cameras()


# ---- worker processes ---------------------------------------------------------------------------


def work(numbers: list[int], seed: int, folder: str, pipe) -> None:
    """Tries one after the other, each announced before it begins."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    scene = made_scene()
    for number in numbers:
        pipe.send(number)
        pipe.send(attempt(number, seed, Path(folder), scene))


def supervised(numbers: list[int], seed: int, folder: Path) -> Iterator[Outcome]:
    """Outcomes of a worker, which is started again behind a try that stopped it."""
    context = multiprocessing.get_context("spawn")
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(numbers, seed, str(folder), theirs))
        worker.start()
        theirs.close()
        limit, end = STARTING, "hang"
        try:
            while ours.poll(limit):
                message, limit = ours.recv(), SECONDS
                if isinstance(message, Outcome):
                    numbers = numbers[1:]
                    yield message
                if not numbers:
                    return
        except EOFError:
            end = "killed"
        finally:
            worker.kill()
            worker.join()
        yield Outcome(numbers[0], "?", end)
        numbers = numbers[1:]


def run(count: int, seed: int, workers: int) -> list[Outcome]:
    """All tries, over worker processes; failures are printed as they come."""
    outcomes: list[Outcome] = []
    lock = threading.Lock()

    def collect(numbers: list[int], folder: Path) -> None:
        for outcome in supervised(numbers, seed, folder):
            with lock:
                outcomes.append(outcome)
                if outcome.is_failure:
                    print(f"{outcome.number} {outcome.form}: {outcome.kind}\n{outcome.words}")
                if len(outcomes) % 1000 == 0:
                    print(f"{len(outcomes)} of {count}", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        shares = [(list(range(w, count, workers)), Path(folder, str(w))) for w in range(workers)]
        threads = [threading.Thread(target=collect, args=share) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def summary(outcomes: list[Outcome]) -> dict:
    """Counts by form and of failures, the slowest try in seconds, the most memory of a worker."""
    by_form: dict[str, collections.Counter] = {}
    for outcome in outcomes:
        kind = "failed" if outcome.is_failure else outcome.kind
        by_form.setdefault(outcome.form, collections.Counter())[kind] += 1
    total = sum(by_form.values(), collections.Counter())
    return {
        "tries": len(outcomes),
        "answered": total["answered"],
        "refused": total["refused"],
        "failed": total["failed"],
        "slowest_seconds": round(max(outcome.seconds for outcome in outcomes), 2),
        "peak_mebibytes": round(max(outcome.peak for outcome in outcomes) / 2**20),
        "forms": {form: dict(counts) for form, counts in sorted(by_form.items())},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    outcomes = run(arguments.count, arguments.seed, arguments.workers)
    result = summary(outcomes)
    print(json.dumps(result, indent=1))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
