"""Text as programs write it: with or without a byte order mark, with any ends of lines."""

import codecs
from pathlib import Path

from tttlrm_jax.core.errors import InputError

# byte order marks by the encoding that they announce; UTF-32 first, as UTF-16's mark begins it
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def read_text(path: Path, field: str = "file", remedy: str = "restore it") -> str:
    """The text of a file in UTF-8, or as its byte order mark says; lines end in a line feed.

    Raises InputError where it cannot be read or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError.of(field, path, f"cannot be read ({error.strerror})", remedy) from None
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise InputError.of(
            field, path, f"cannot be read as text (it is not {encoding.upper()})", remedy
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, field: str = "file", remedy: str = "restore it") -> list[str]:
    """The lines of `read_text` without blanks around them; other separators are no line ends."""
    return [line.strip() for line in read_text(path, field, remedy).split("\n")]
