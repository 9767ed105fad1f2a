"""What weights were trained on, in words for those who get them."""

from pathlib import Path

from tttlrm_jax.checkpoints.directories import newest_step, read_config_values
from tttlrm_jax.config import DataConfig, RunConfig, config_from_dict
from tttlrm_jax.config.run import AnyRun, SequenceRunConfig
from tttlrm_jax.config.ttt3r import is_ttt3r
from tttlrm_jax.core.errors import InputError, listed


def provenance_of(directory: Path | str) -> str:
    """What the weights in a run or model directory have seen; "" where it does not say.

    Raises InputError where there is no such directory.
    """
    known = _known(directory)
    return known if isinstance(known, str) else provenance(known, newest_step(Path(directory)))


def provenance(run: AnyRun, steps: int | None = None) -> str:
    """What the weights of a run have seen: its own `provenance`, else made from its data.

    `steps` are those that were taken, by default all. Where the run began from other weights, what
    these had seen comes first, as far as their directory can be read.
    """
    if run.provenance:
        return run.provenance
    texts, earlier, looked_at = [_own(run, steps)], run.train.init_from, set()
    while earlier is not None and earlier not in looked_at:
        looked_at.add(earlier)
        text, earlier = _earlier(earlier)
        texts.insert(0, text)
    return "; then ".join(texts)


def _known(directory: Path | str) -> AnyRun | str:
    """The run of a directory, or what the model there says of itself."""
    values = read_config_values(Path(directory))
    if values.get("provenance") or "train" not in values:
        return str(values.get("provenance", ""))
    return config_from_dict(SequenceRunConfig if is_ttt3r(values) else RunConfig, values)


def _earlier(directory: str) -> tuple[str, str | None]:
    """What the weights there have seen themselves, and where those lie that they began from."""
    try:
        known = _known(directory)
    except InputError:
        known = ""
    if isinstance(known, str):
        return known or f"what {_name(directory)} had seen", None
    return _own(known, newest_step(Path(directory))), known.train.init_from


def _own(run: AnyRun, steps: int | None) -> str:
    """What a run itself adds."""
    if isinstance(run, SequenceRunConfig):
        seen = f"procedural box rooms at {run.room.width}x{run.room.height} pixels"
        counts, unit, items = run.train.frame_counts, "frames", "sequences"
    else:
        height, width = run.data.image_size
        seen = f"{_scenes(run.data)} at {width}x{height} pixels"
        counts = run.train.view_counts or (run.data.num_input_views,)
        unit, items = "input views", "scenes"
    few, many = min(counts), max(counts)
    return (
        f"{seen} with {few if few == many else f'{few} to {many}'} {unit}, "
        f"{steps or run.train.num_steps} steps of {run.train.batch_size} {items} (run {run.name})"
    )


def _scenes(data: DataConfig) -> str:
    if data.source == "synthetic" and data.synthetic.generator == "models":
        scenes = data.synthetic
        names = listed([_name(each) for each in scenes.models])
        return f"{scenes.num_scenes} scenes of models ({names}; {scenes.models_credit})"
    if data.source == "synthetic":
        return f"{data.synthetic.num_scenes} procedural scenes ({data.synthetic.generator})"
    if data.source == "shards":
        return f"the packed data set {_name(data.shard_directory)}"
    return f"captures ({listed([_name(each) for each in data.capture_directories])})"


def _name(directory: str) -> str:
    return Path(directory).name or directory
