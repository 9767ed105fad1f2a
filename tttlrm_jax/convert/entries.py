"""One line of a name table: a published tensor and the parameter that it is."""

import dataclasses

from tttlrm_jax.convert.layouts import LINEAR, SAME, Layout


@dataclasses.dataclass(frozen=True)
class Entry:
    """One published tensor: `path` of our parameter and `layer` on its leading axis, if any."""

    published: str
    path: tuple[str, ...]
    layer: int | None = None
    layout_override: Layout | None = None

    @property
    def layout(self) -> Layout:
        """Linear weights are transposed; tensors without a layout of their own are stored alike."""
        return self.layout_override or (LINEAR if self.path[-1] == "kernel" else SAME)


def entries(names: dict[str, str]) -> tuple[Entry, ...]:
    """Entries of a table `{published name: path with dots}`."""
    return tuple(Entry(name, tuple(path.split("."))) for name, path in names.items())


def stacked_entries(
    published: str, path: str, names: dict[str, str], num_layers: int
) -> tuple[Entry, ...]:
    """Entries of layers that have their index in the published name."""
    return tuple(
        Entry(f"{published}.{layer}.{name}", (path, *inner.split(".")), layer)
        for layer in range(num_layers)
        for name, inner in names.items()
    )


def under(prefix: str, path: tuple[str, ...], inner: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The entries of a part, as those of the whole."""
    return tuple(
        dataclasses.replace(e, published=prefix + e.published, path=(*path, *e.path)) for e in inner
    )
