"""PLY files as tests read them back."""

import numpy as np

from tttlrm_jax.core.types import Gaussians

KINDS = {"float": "<f4", "uchar": "u1"}


def read_vertices(path):
    """The vertices of a binary PLY file as a structured array; fails for one that is cut short."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    magic, form, element, *properties = head.decode("ascii").splitlines()
    assert (magic, form) == ("ply", "format binary_little_endian 1.0")
    columns = [line.split() for line in properties]
    assert all(word == "property" for word, _, _ in columns)
    dtype = np.dtype([(name, KINDS[kind]) for _, kind, name in columns])
    return np.frombuffer(body, dtype, int(element.removeprefix("element vertex ")))


def read_gaussians(path, degree=None):
    """Gaussians of a splat file, float32; the degree is that of its columns unless it is given."""
    table = read_vertices(path)

    def group(*names):
        return np.stack([table[name] for name in names], axis=-1)

    def numbered(stem, count):
        return group(*(f"{stem}_{index}" for index in range(count)))

    columns = sum(name.startswith("f_rest_") for name in table.dtype.names)
    higher = columns // 3 if degree is None else (degree + 1) ** 2 - 1
    rest = [numbered("f_rest", 3 * higher).reshape(-1, 3, higher)] if higher else []
    sh = np.concatenate([numbered("f_dc", 3)[:, :, None], *rest], axis=2)
    return Gaussians(
        mean=group("x", "y", "z"), sh=np.moveaxis(sh, 1, 2), log_scale=numbered("scale", 3),
        quaternion=numbered("rot", 4), opacity_logit=table["opacity"],
    )  # fmt: skip
