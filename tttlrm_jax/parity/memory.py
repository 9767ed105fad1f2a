"""How much memory can be had, by the machine's account and by that of the container."""

import re
from collections.abc import Iterator
from pathlib import Path

CGROUP_FILES = {  # limit, use: of version 2, and of version 1 in its folder
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be had without swapping or being stopped, None where nothing tells.

    The least of what the machine has and what each enclosing control group may still take.
    `root` is where the system's files are looked for.
    """
    known = [*_left_in_groups(root)]
    match = re.search(r"MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"))
    if match is not None:
        known.append(1024 * int(match.group(1)))
    return min(known, default=None)


def _left_in_groups(root: Path) -> Iterator[int]:
    lines = _text(root / "proc/self/cgroup").splitlines()
    own = {path for _, _, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)}
    for folder, (limit, use) in CGROUP_FILES.items():
        mounted = root / "sys/fs/cgroup" / folder
        groups = {mounted}
        for path in own:
            parts = Path(path.lstrip("/"))
            groups |= {mounted / each for each in (parts, *parts.parents)}
        for group in groups:
            most, used = _text(group / limit).strip(), _text(group / use).strip()
            if most.isdigit() and used.isdigit():  # "max": no limit
                yield max(0, int(most) - int(used) + _droppable(group))


def _droppable(group: Path) -> int:
    """Cached files of a group, which count as used and go when memory is asked for."""
    match = re.search(r"^(?:total_)?inactive_file (\d+)$", _text(group / "memory.stat"), re.M)
    return 0 if match is None else int(match.group(1))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
