"""What weights were trained on, and what of a configuration belongs to the machine instead."""

from typing import Any

from tttlrm_jax.config import DataConfig, RunConfig

# How a run is computed on its machine: of no concern to those who use its weights.
HOST_CHOICES: dict[str, tuple[str, ...] | None] = {
    "raster": ("backend",),
    "data": ("cache_directory", "render_workers", "num_threads", "prefetch"),
    "train": ("directory", "init_from", "init_moments"),
    "mesh": None,  # all of it
}


def without_host_choices(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a `config.json` without those that a machine chooses: readers take defaults."""
    values = dict(values)
    for part, fields in HOST_CHOICES.items():
        if fields is None:
            values.pop(part, None)
        elif isinstance(values.get(part), dict):
            values[part] = {name: v for name, v in values[part].items() if name not in fields}
    return values


def provenance(run: RunConfig) -> str:
    """What the weights of a run have seen, in a sentence: its own `provenance`, else its data."""
    if run.provenance:
        return run.provenance
    height, width = run.data.image_size
    return (
        f"{_scenes(run.data)} at {width}x{height} pixels with {run.data.num_input_views} input "
        f"views; {run.train.num_steps} steps of {run.train.batch_size} scenes"
    )


def _scenes(data: DataConfig) -> str:
    if data.source == "synthetic":
        return f"{data.synthetic.num_scenes} procedural scenes ({data.synthetic.generator})"
    return {"captures": "captures", "shards": "a packed data set"}[data.source]
