"""Files that are the old or the new one at every moment, whatever ends the process."""

import os
from pathlib import Path


def draft_of(path: Path) -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f".{path.name}.partial")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file, text in UTF-8, under another name and gives it its own at the end."""
    draft = draft_of(path)
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(draft, path)
