"""Binary files of other programs, value by value."""

import io
import struct
from pathlib import Path
from typing import NoReturn

from tttlrm_jax.core.errors import InputError


class BinaryReader:
    """Little-endian values from a file, one after the other.

    Raises InputError for a file that cannot be read or ends too soon; `remedy` ends the sentence.
    """

    def __init__(self, path: Path, remedy: str):
        try:
            self._stream = io.BytesIO(path.read_bytes())
        except OSError as error:
            raise InputError.of(
                "file", path, f"cannot be read ({error.strerror})", remedy
            ) from None
        self._path, self._remedy = path, remedy

    def values(self, layout: str) -> tuple:
        size = struct.calcsize("<" + layout)
        return struct.unpack("<" + layout, self._bytes(size))

    def name(self) -> str:
        """A text that ends with a zero byte."""
        out = bytearray()
        while (byte := self._bytes(1)) != b"\0":
            out += byte
        return out.decode("utf-8", errors="replace")

    def skip(self, size: int) -> None:
        if size > len(self._stream.getbuffer()) - self._stream.tell():
            self._end()
        self._stream.seek(size, io.SEEK_CUR)

    def _bytes(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        if len(chunk) < size:
            self._end()
        return chunk

    def _end(self) -> NoReturn:
        raise InputError(f"{self._path} ends in the middle of an entry; {self._remedy}")
