"""Gaussians as `.spz` (Niantic; the public description of nianticlabs/spz, MIT).

Version 3 is one gzip stream: a header of 16 bytes, then positions, opacities, colours, log scales,
rotations and spherical harmonics of all Gaussians, one after the other. Version 4 has a header of
32 bytes, a table of the streams' sizes, and each of these as a stream of zstd. Versions 2 to 4 are
read.

| what | stored | range | step |
| --- | --- | --- | --- |
| position | 24-bit fixed point | +-2^23 steps | 2^-12, or what `fractional_bits` says |
| opacity | byte | 0 to 1 | 1/255 |
| colour (degree 0) | byte | coefficients +-3.33, colours -0.44 to 1.44 | 1/38.25 |
| log scale | byte | -10 to 5.94 | 1/16 |
| rotation | the three smallest of 4 numbers, 10 bits each | | 0.0014 |
| higher degrees | byte, of which 5 bits (degree 1) or 4 count | -1 to 1 | 1/16, 1/8 |

The axes are RUB (`frames`).
"""

import dataclasses
import gzip
import itertools
import operator
import struct
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.writable import (
    EMPTY,
    ExportCount,
    opacity,
    opacity_logit,
    writable,
)

MAGIC = b"NGSP"
VERSIONS, ZSTD_VERSION, READ_VERSIONS = (3, 4), 4, (2, 3, 4)
USUAL_BITS, MAX_BITS, POSITION_STEPS = 12, 22, 1 << 23
COLOUR_SCALE = 0.15
SH_BITS = (5, 4)  # that count of degree 1, and of those above
MAX_DEGREE = 4
HAS_EXTENSIONS = 2  # a flag
COORDINATE_SYSTEM = 0xADBE0003  # an extension that says other axes
GZIP_LEVEL, ZSTD_LEVEL = 6, 12
BLOCK = 1 << 16  # Gaussians
ZSTD_REMEDY = 'pip install "tttlrm-jax[zstd]", or write version 3'


@dataclasses.dataclass(frozen=True)
class Header:
    version: int
    num_points: int
    sh_degree: int
    fractional_bits: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of the six attributes of all Gaussians."""
        rotation = 4 if self.version >= 3 else 3
        higher = 3 * ((self.sh_degree + 1) ** 2 - 1)
        return tuple(self.num_points * each for each in (9, 1, 3, 3, rotation, higher))


def write_spz(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
    version: int = 3,
    sh_bits: tuple[int, int] = SH_BITS,
    turned: bool = True,
) -> ExportCount:
    """Writes one scene; see `writable` for the Gaussians that are left out.

    Values beyond the format's range are brought to its end; the count says of how many Gaussians.
    Positions have 12 fractional bits; as many as there is room for where they reach beyond the
    2,048 units of these (there readers' sums would wrap) and where the median Gaussian is smaller
    than a step. Raises InputError where even so a step is larger than the median Gaussian, and for
    another version. `turned=False` leaves the axes as they are, for programs that take those of
    .spz for those of a PLY (splat-transform and others do). The format has no place for what
    positions are relative to: `offset` is not written.
    """
    del offset
    if version not in VERSIONS:
        raise InputError.of("version", version, "is not written", f"use one of {VERSIONS}")
    kept, count = writable(gaussians, min_opacity)
    if not count.num_written:
        raise InputError(f".spz: {EMPTY}")
    bits = fractional_bits(kept)
    header = Header(version, count.num_written, _degree(kept), bits)
    placed = turned_about_x(kept) if turned else kept
    packed, num_clipped = _in_blocks(placed, bits, sh_bits)
    encoded = (_zstd if version >= ZSTD_VERSION else _gzip)(header, packed)
    write_whole(Path(path), encoded)
    return dataclasses.replace(count, num_clipped=num_clipped)


def fractional_bits(gaussians: Gaussians) -> int:
    """Of positions; raises InputError where the format cannot hold them finely enough."""
    reach = float(np.abs(gaussians.mean).max())
    median = float(np.exp(np.median(gaussians.log_scale.max(axis=-1))))
    room = MAX_BITS
    while room > 0 and np.floor(reach * 2**room + 0.5) >= POSITION_STEPS:
        room -= 1
    bits = USUAL_BITS if room >= USUAL_BITS and median >= 2**-USUAL_BITS else room
    if np.floor(reach * 2**bits + 0.5) >= POSITION_STEPS or 2.0**-bits > median:
        raise InputError(
            f".spz: positions reach {reach:.4g} units from the origin, where its 24 bits have "
            f"steps of {2.0**-bits:.4g}, more than the median Gaussian's {median:.4g}; write .ply, "
            "or scale or move the scene"
        )
    return bits


def _degree(gaussians: Gaussians) -> int:
    return round(gaussians.sh.shape[1] ** 0.5) - 1


def _in_blocks(
    gaussians: Gaussians, bits: int, sh_bits: tuple[int, int]
) -> tuple[list[bytes], int]:
    """`_packed`, some Gaussians at a time: numbers on the way are larger than the bytes."""
    blocks = [
        _packed(
            jax.tree.map(operator.itemgetter(slice(first, first + BLOCK)), gaussians),
            bits,
            sh_bits,
        )
        for first in range(0, len(gaussians.mean), BLOCK)
    ]
    parts = [b"".join(part) for part in zip(*(block for block, _ in blocks), strict=True)]
    return parts, sum(count for _, count in blocks)


def _packed(g: Any, bits: int, sh_bits: tuple[int, int]) -> tuple[list[bytes], int]:
    """The six attributes, and how many Gaussians have a value beyond the range."""
    fixed = _round(g.mean.astype(np.float64) * 2**bits).astype("<i4")
    positions = fixed[..., None].view(np.uint8)[..., :3]
    colours = g.sh[:, 0] * np.float32(COLOUR_SCALE * 255) + np.float32(127.5)
    scales = (g.log_scale + np.float32(10)) * np.float32(16)
    higher = _quantised_sh(g.sh[:, 1:], sh_bits)
    beyond = np.zeros(len(g.mean), bool)
    for values, top in ((_round(colours), 255), (_round(scales), 255)):
        beyond |= ((values < 0) | (values > top)).any(axis=-1)
    beyond |= ((g.sh[:, 1:] < -1) | (g.sh[:, 1:] > 1)).any(axis=(1, 2))
    parts = (
        positions, _bytes(255 * opacity(g.opacity_logit)), _bytes(colours), _bytes(scales),
        _smallest_three(g.quaternion), higher,
    )  # fmt: skip
    return [part.tobytes() for part in parts], int(beyond.sum())


def _round(values: np.ndarray) -> np.ndarray:
    """To the nearest whole number, halves away from 0."""
    return np.trunc(values + np.copysign(0.5, values))


def _bytes(values: np.ndarray) -> np.ndarray:
    return _round(values).clip(0, 255).astype(np.uint8)


def _quantised_sh(coefficients: np.ndarray, bits: tuple[int, int]) -> np.ndarray:
    """uint8 [gaussian, coefficient, 3]: the middle of a bucket, 0 always being one."""
    buckets = np.full(coefficients.shape[1], 1 << (8 - bits[1]))
    buckets[:3] = 1 << (8 - bits[0])
    bucket = buckets[:, None]
    levels = _round(coefficients.clip(-2, 2) * 128).astype(np.int32) + 128
    # whole-number division of C, towards 0; levels below 0 end at 0 either way
    return ((levels + bucket // 2) // bucket * bucket).clip(0, 255).astype(np.uint8)


def _smallest_three(quaternion: np.ndarray) -> np.ndarray:
    """uint32 [gaussian]: which of x, y, z, w is largest, then sign and 9 bits of each other."""
    xyzw = np.roll(quaternion, -1, axis=-1)
    largest = np.abs(xyzw).argmax(axis=-1)[:, None]
    negate = np.take_along_axis(xyzw, largest, -1) < 0
    magnitude = np.float32(511) * (np.abs(xyzw) / np.float32(np.sqrt(0.5))) + np.float32(0.5)
    word = ((xyzw < 0) ^ negate).astype(np.uint32) << 9 | magnitude.astype(np.uint32)
    packed = largest[:, 0].astype(np.uint32)
    for axis in range(4):
        packed = np.where(axis == largest[:, 0], packed, packed << np.uint32(10) | word[:, axis])
    return packed.astype("<u4")


def _gzip(header: Header, packed: list[bytes]) -> bytes:
    head = struct.pack(
        "<4sIIBBBB", MAGIC, header.version, header.num_points, header.sh_degree,
        header.fractional_bits, 0, 0,
    )  # fmt: skip
    return gzip.compress(b"".join([head, *packed]), GZIP_LEVEL, mtime=0)


def _zstd(header: Header, packed: list[bytes]) -> bytes:
    compressor = _zstandard().ZstdCompressor(level=ZSTD_LEVEL)
    parts = [part for part in packed if part]
    streams = [compressor.compress(part) for part in parts]
    head = struct.pack(
        "<4sIIBBBBI12x", MAGIC, header.version, header.num_points, header.sh_degree,
        header.fractional_bits, 0, len(parts), 32,
    )  # fmt: skip
    table = (struct.pack("<QQ", len(s), len(p)) for s, p in zip(streams, parts, strict=True))
    return b"".join([head, *table, *streams])


def _zstandard():
    try:
        import zstandard
    except ImportError:
        raise InputError(f".spz of version 4 needs zstandard; {ZSTD_REMEDY}") from None
    return zstandard


def read_spz(path: Path | str) -> Gaussians:
    """The Gaussians of a file of version 2, 3 or 4, in the project's axes.

    An opacity of 0 or 1 has the logit of `MAX_OPACITY_LOGIT`. Raises InputError for a file that is
    none, is cut short, or has other axes by an extension.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    try:
        header, parts = (_streams if content[:4] == MAGIC else _one_stream)(path, content)
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is no .spz file, or is cut short; copy the file again") from None
    if tuple(map(len, parts)) != header.sizes:
        raise InputError.of(
            str(path), f"{sum(map(len, parts))} bytes of Gaussians",
            f"are not the {sum(header.sizes)} of its header", "copy the file again",
        )  # fmt: skip
    turned = turned_about_x(_unpacked(header, parts))
    return Gaussians(*(on_device(getattr(turned, f.name)) for f in dataclasses.fields(turned)))


def _one_stream(path: Path, content: bytes) -> tuple[Header, list[bytes]]:
    body = gzip.decompress(content)
    magic, version, count, degree, bits, flags, _ = struct.unpack_from("<4sIIBBBB", body)
    if magic != MAGIC:
        raise InputError(f"{path} is no .spz file; give one")
    header = _checked(path, Header(version, count, degree, bits))
    ends = np.cumsum([16, *header.sizes]).tolist()
    if flags & HAS_EXTENSIONS:
        _refuse_axes(path, body[ends[-1] :])
    parts = [body[a:b] for a, b in itertools.pairwise(ends)]
    return header, parts


def _streams(path: Path, content: bytes) -> tuple[Header, list[bytes]]:
    _, version, count, degree, bits, flags, streams, table = struct.unpack_from(
        "<4sIIBBBBI", content
    )
    header = _checked(path, Header(version, count, degree, bits))
    if flags & HAS_EXTENSIONS:
        _refuse_axes(path, content[32:table])
    sizes, place = [size for size in header.sizes if size], table + 16 * streams
    parts: list[bytes] = []
    zstandard = _zstandard()
    for index, expected in enumerate(sizes[:streams]):
        length, _ = struct.unpack_from("<QQ", content, table + 16 * index)
        try:
            whole = zstandard.ZstdDecompressor().decompress(
                content[place : place + length], max_output_size=expected
            )
        except zstandard.ZstdError:
            raise zlib.error from None
        parts.append(whole)
        place += length
    return header, [*parts, *[b""] * (len(header.sizes) - len(parts))]


def _checked(path: Path, header: Header) -> Header:
    if not header.num_points:
        raise InputError(f"{path} holds no Gaussians; give a splat scene")
    if header.version not in READ_VERSIONS or header.sh_degree > MAX_DEGREE:
        raise InputError.of(
            str(path), f"version {header.version}, degree {header.sh_degree}", "is not read",
            f"give a file of version {READ_VERSIONS} and degree 0 to {MAX_DEGREE}",
        )  # fmt: skip
    return header


def _refuse_axes(path: Path, records: bytes) -> None:
    """The records of extensions may say other axes; those of cameras change nothing."""
    place = 0
    while place + 8 <= len(records):
        kind, length = struct.unpack_from("<II", records, place)
        if kind == COORDINATE_SYSTEM:
            raise InputError(f"{path} states axes of its own; convert it to the usual ones first")
        place += 8 + length


def _unpacked(header: Header, parts: list[bytes]) -> Gaussians:
    count = header.num_points
    arrays = [np.frombuffer(part, np.uint8).reshape(count, -1) for part in parts]
    positions, alphas, colours, scales, rotations, higher = arrays
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = positions.reshape(count, 3, 3)  # in the upper bytes, whose sign is right
    mean = (fixed.view("<i4")[..., 0] >> 8) * np.float32(2.0**-header.fractional_bits)
    unpack = _from_smallest_three if header.version >= 3 else _from_first_three
    base = (colours.astype(np.float32) / 255 - 0.5) / np.float32(COLOUR_SCALE)
    rest = (higher.astype(np.float32) - 128) / 128
    values: dict[str, Any] = {
        "mean": mean.astype(np.float32),
        "sh": np.concatenate([base[:, None], rest.reshape(count, -1, 3)], axis=1),
        "log_scale": scales.astype(np.float32) / 16 - 10,
        "quaternion": unpack(rotations),
        "opacity_logit": opacity_logit(alphas[:, 0] / 255),
    }
    return Gaussians(**values)


def _from_smallest_three(rotations: np.ndarray) -> np.ndarray:
    """Quaternions wxyz of `_smallest_three`."""
    packed = np.ascontiguousarray(rotations).view("<u4")[:, 0]
    largest = packed >> 30
    xyzw = np.zeros((len(packed), 4), np.float32)
    for axis in range(3, -1, -1):
        mine = axis != largest
        value = np.float32(np.sqrt(0.5) / 511) * (packed & 511).astype(np.float32)
        xyzw[mine, axis] = np.where(packed >> 9 & 1, -value, value)[mine]
        packed = np.where(mine, packed >> 10, packed)
    rest = np.sqrt(np.maximum(0, 1 - (xyzw**2).sum(axis=-1)))
    np.put_along_axis(xyzw, largest[:, None].astype(np.int64), rest[:, None], -1)
    return np.roll(xyzw, 1, axis=-1)


def _from_first_three(rotations: np.ndarray) -> np.ndarray:
    """Quaternions wxyz of the x, y, z of version 2, whose w is not negative."""
    xyz = rotations.astype(np.float32) / np.float32(127.5) - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=-1, keepdims=True)))
    return np.concatenate([w, xyz], axis=-1)
