"""What weights were trained on, in words for those who get them."""

from pathlib import Path

from tttlrm_jax.checkpoints.directories import read_config_values
from tttlrm_jax.config import DataConfig, RunConfig, config_from_dict
from tttlrm_jax.core.errors import InputError, listed


def provenance(run: RunConfig, steps: int | None = None) -> str:
    """What the weights of a run have seen: its own `provenance`, else made from its data.

    `steps` are those that were taken, by default all. Where the run began from other weights, what
    these had seen comes first, as far as their directory can be read.
    """
    texts, earlier, looked_at = [_own(run, steps)], _begun_from(run), set()
    while earlier is not None and earlier not in looked_at:
        looked_at.add(earlier)
        text, earlier = _of_directory(earlier)
        texts.insert(0, text)
    return "; then ".join(texts)


def _of_directory(directory: str) -> tuple[str, str | None]:
    """What the weights there have seen, and the directory of those that they began from."""
    try:
        values = read_config_values(Path(directory))
        if values.get("provenance"):
            return values["provenance"], None
        run = config_from_dict(RunConfig, values)
    except InputError:
        return f"what {_name(directory)} had seen", None
    return _own(run), _begun_from(run)


def _begun_from(run: RunConfig) -> str | None:
    return None if run.provenance else run.train.init_from


def _own(run: RunConfig, steps: int | None = None) -> str:
    if run.provenance:
        return run.provenance
    height, width = run.data.image_size
    return (
        f"{_scenes(run.data)} at {width}x{height} pixels with {_view_counts(run)} input views, "
        f"{steps or run.train.num_steps} steps of {run.train.batch_size} scenes (run {run.name})"
    )


def _scenes(data: DataConfig) -> str:
    if data.source == "synthetic":
        return f"{data.synthetic.num_scenes} procedural scenes ({data.synthetic.generator})"
    if data.source == "shards":
        return f"the packed data set {_name(data.shard_directory)}"
    return f"captures ({listed([_name(each) for each in data.capture_directories])})"


def _view_counts(run: RunConfig) -> str:
    counts = sorted({*run.train.view_counts} or {run.data.num_input_views})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _name(directory: str) -> str:
    return Path(directory).name or directory
