"""Pickles as data: a stream may name any function, and gets only what a table holds for the name.

Nothing that a stream names is imported or run; every name outside the table is refused.
"""

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

# what a stream that is damaged, or no pickle at all, may raise while it is read
UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError,
    TypeError, AttributeError, IndexError, KeyError, NotImplementedError, RecursionError,
    OverflowError, MemoryError, struct.error,
)  # fmt: skip


class Refused(pickle.UnpicklingError):
    """The pickle names something that its reader's table does not hold."""


class TableUnpickler(pickle.Unpickler):
    """Gives the stream `table[module, name]`, or `table[module, "*"]` for any name of a module."""

    def __init__(self, stream: IO[bytes], table: Mapping[tuple[str, str], Any]):
        super().__init__(stream, encoding="utf-8")
        self._table = table

    def find_class(self, module: str, name: str) -> Any:
        """Never imports; raises `Refused` for what is not in the table."""
        for key in ((module, name), (module, "*")):
            if key in self._table:
                return self._table[key]
        raise Refused(f"{module}.{name}")
