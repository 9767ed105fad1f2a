"""`eval.py --model ttt3r`: a sequence and a checkpoint in; trajectory, points, depth, report out.

Frames are decoded, shown to the model and written one after the other, so neither memory nor the
loss through an interruption grows with the length of the sequence.
"""

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tqdm

from tttlrm_jax.api.models import load_sequence_model
from tttlrm_jax.api.poses.drift import Closed, LoopCloser
from tttlrm_jax.api.poses.pointmap_poses import PosesFromPoints
from tttlrm_jax.api.sequences import DEFAULT_STATE_RULE, FrameModel, FrameStream
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.protocols.command import TABLE_FILE, evaluate_protocol, table_summary
from tttlrm_jax.apps.protocols.tables import apply_protocol
from tttlrm_jax.apps.rule_arguments import parse_apart, read_rule
from tttlrm_jax.apps.sequences.files import SequenceFiles, SequenceJob, prepare_directory
from tttlrm_jax.apps.view.runs import FramesPage, opened_page
from tttlrm_jax.checkpoints.models import trained_size
from tttlrm_jax.checkpoints.provenance import provenance_of
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.evaluation import PUBLISHED_SIZE, SequenceEvalConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import default_output, disk_errors
from tttlrm_jax.core.files.packaged_files import TTT3R_SMALL, packaged
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.sequences.frame_images import check_patches, plan_fit
from tttlrm_jax.sequences.readers import open_sequence
from tttlrm_jax.sequences.sequence import FrameSelection
from tttlrm_jax.training.stopping import StopRequest
from tttlrm_jax.ttt.state_rules import STATE_RULES

PROG = "eval.py --model ttt3r"

# Makes the model that goes through the sequence.
OpenModel = Callable[[SequenceEvalConfig, RuleConfig], FrameModel]


def run(arguments: list[str]) -> str:
    """Evaluates one sequence, or all of a protocol; returns what to tell the user."""
    config, rule = parse(arguments)
    if config.compile_cache:
        keep_programs()
    if config.protocol is not None:
        directory, row = evaluate_protocol(config, rule, evaluate_sequence, open_checkpoint)
        return f"{table_summary(row)}\n\n{directory / TABLE_FILE}"
    with opened_page(config) as page:
        shown = None if page is None else FramesPage(page, config.min_confidence)
        directory, metrics = evaluate_sequence(config, rule, page=shown)
        told = f"{summary(metrics)}\n\n{directory / 'report.html'}"
        if page is None:
            return told
        print(told)
        page.wait_after_run(directory)
    return ""


def parse(arguments: list[str]) -> tuple[SequenceEvalConfig, RuleConfig]:
    """The configuration and the complete state rule; options that are given win over a protocol.

    Raises ConfigError in one sentence; `--help` lists options and rules.
    """
    config, given = parse_apart(SequenceEvalConfig, arguments, PROG, STATE_RULES)
    if config.protocol is not None:
        protocol = SequenceEvalConfig(protocol=config.protocol, length=config.length)
        config, given = parse_apart(
            SequenceEvalConfig, arguments, PROG, STATE_RULES, apply_protocol(protocol)
        )
    if config.root is not None:
        config = dataclasses.replace(config, root=None, capture=config.root)
    rule = read_rule(STATE_RULES, given, RuleConfig(DEFAULT_STATE_RULE), PROG)
    return config, STATE_RULES.complete(rule)


def open_checkpoint(config: SequenceEvalConfig, rule: RuleConfig) -> FrameModel:
    """The model of a checkpoint, else the package's. Raises InputError where none can be read."""
    if config.protocol is not None and config.checkpoint is None:
        raise InputError(
            "checkpoint=none: a protocol is run with published weights, which the package does not "
            "ship; download them, run `python -m tttlrm_jax.convert SRC DEST` and give "
            "--checkpoint DEST"
        )
    path = _checkpoint_path(config)
    with announced(f"loading {path}"):
        model = load_sequence_model(path)
    return model.live(rule, config.behaviour)


def picture_size(config: SequenceEvalConfig) -> tuple[int, list[str]]:
    """Longer side in pixels, and what to note of it.

    As given, else as trained, else as published. Raises InputError for no readable checkpoint.
    """
    trained = None if config.size else trained_size(_checkpoint_path(config))
    if trained is None:
        return config.size or PUBLISHED_SIZE, []
    height, width = trained
    note = (
        f"pictures are fitted to {max(trained)} pixels, since the checkpoint was trained at "
        f"{width}x{height}; --size changes that"
    )
    return max(trained), [note]


def _provenance_notes(config: SequenceEvalConfig) -> list[str]:
    """What the weights have seen, where their directory says it."""
    seen = provenance_of(_checkpoint_path(config))
    if not seen:
        return []
    remedy = "" if config.checkpoint else "; others are converted and given with --checkpoint"
    return [f"the weights were trained on {seen}{remedy}"]


def evaluate_sequence(
    config: SequenceEvalConfig,
    rule: RuleConfig,
    open_model: OpenModel = open_checkpoint,
    page: FramesPage | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Goes through the sequence; returns the directory written and its metrics.

    Raises InputError for input that cannot be used: before the first frame without leaving a
    directory, later with what was written until then. KeyboardInterrupt likewise; its text says
    where that is.
    """
    if config.capture is None:
        raise InputError("capture=none: there is no sequence; give --capture FOLDER_OR_VIDEO")
    selection = FrameSelection(
        start=config.start, stride=config.stride, max_frames=config.max_frames,
        frames=config.frames,
    )  # fmt: skip
    sequence = open_sequence(
        config.capture, selection, kind=config.kind, skip_bad_poses=config.skip_bad_poses,
        intrinsics_scale=config.intrinsics_scale,
    )  # fmt: skip
    if config.reconstruction and sequence.lens_problem is not None:
        raise InputError(f"intrinsics of {sequence.name}: {sequence.lens_problem}")
    size, notes = picture_size(config)
    fit = check_patches(plan_fit(*sequence.image_size, size, config.fit))
    model = open_model(config, rule)
    if config.poses == "pnp":
        model = PosesFromPoints(model, fit)
    notes[:0] = _provenance_notes(config) if open_model is open_checkpoint else []
    notes += sequence.notes
    if config.reconstruction and sequence.intrinsics is None:
        notes.append("reconstruction is not scored: the sequence says no intrinsics")
    job = SequenceJob(
        config=config, sequence=sequence, fit=fit, rule=str(rule),
        checkpoint=config.checkpoint or TTT3R_SMALL, notes=tuple(notes),
    )  # fmt: skip
    output = Path(config.output or default_output(sequence.name, "sequence")).absolute()
    directory = prepare_directory(output)
    with disk_errors(directory, output):
        return output, _stream(model, job, directory, page)


def _stream(
    model: FrameModel, job: SequenceJob, directory: Path, page: FramesPage | None
) -> dict[str, Any]:
    """All frames, then the summary; also where a bad frame or a signal ends them early.

    The first signal waits for the end of its frame, so that all files tell of the same frames; a
    second one, or one during the summary, ends it at once.
    """
    files = SequenceFiles(directory, job)
    closer = LoopCloser() if job.config.pose_graph else None
    metrics: dict[str, Any] = {}
    try:
        ended = _show(model, job, files, page, closer)
        if files.num_frames:
            with announced("scores, plot and report"):
                whole = ended is None or files.num_frames == job.sequence.num_frames
                stopped = None if whole else str(ended) or "interrupted"
                metrics = files.finish(stopped, _pose_notes(model), _closed(closer, model, ended))
    except KeyboardInterrupt as stop:
        ended = stop
    finally:
        files.close()
        if closer is not None:
            closer.discard()
    if ended is None:
        return metrics
    if not files.num_frames:
        shutil.rmtree(directory)
        raise ended
    lacking = "" if metrics else ", without scores and report"
    written = f"{files.num_frames} frames are in {directory}{lacking}"
    bad = isinstance(ended, InputError)
    raise InputError(f"{ended} ({written})") if bad else KeyboardInterrupt(written)


def _closed(closer: LoopCloser | None, model: FrameModel, ended: Any) -> Closed | None:
    """The second trajectory, where one is asked for and nobody waits for an end."""
    if closer is None or isinstance(ended, KeyboardInterrupt):
        return None
    return closer.close(model)


def _pose_notes(model: FrameModel) -> list[str]:
    """What to say of poses that were to be solved."""
    unsolved = model.num_unsolved if isinstance(model, PosesFromPoints) else 0
    if not unsolved:
        return []
    return [
        f"in {unsolved} frames no camera fits the points (PnP): their pose is the regressed one"
    ]


def _show(
    model: FrameModel, job: SequenceJob, files: SequenceFiles, page: FramesPage | None,
    closer: LoopCloser | None,
) -> InputError | KeyboardInterrupt | None:  # fmt: skip
    """Writes frame after frame; returns what ended it before the last one, if anything."""
    with (
        StopRequest() as stop,
        tqdm.tqdm(
            total=job.sequence.expected_frames, unit="frame", file=sys.stderr,
            desc=f"  {job.sequence.name}",
        ) as bar,
    ):  # fmt: skip
        stream = FrameStream(model, lambda height, width: job.fit, job.config.reset_every)
        try:
            for result in stream.run(job.sequence):
                files.add(result)
                if closer is not None:
                    closer.add(result)
                if page is not None:
                    page.add(result)
                bar.update()
                if stop.signal is not None:
                    break
        except InputError as error:
            return error
        return KeyboardInterrupt() if stop.signal is not None else None


def summary(metrics: dict[str, Any]) -> str:
    """The result as a few lines."""
    height, width = metrics["resolution"]
    seconds = metrics["seconds"]
    lines = [
        f"{metrics['scene']}: {metrics['frames']} frames, {width}x{height} pixels, rule "
        f"{metrics['rule']}, {1000 * seconds['per_frame']:.0f} ms per frame on "
        f"{metrics['device']}, {metrics['num_points']} points"
    ]
    trajectory = metrics["trajectory"]
    if trajectory is not None:
        lines.append(
            f"trajectory: ATE {trajectory['ate']:.4f} m, RPE {trajectory['rpe_translation']:.4f} m "
            f"and {trajectory['rpe_rotation']:.3f} deg over {trajectory['frames']} frames"
        )
    closed = metrics.get("pose_graph")
    if closed is not None:
        after = "" if closed["ate"] is None else f", ATE {closed['ate']:.4f} m"
        lines.append(f"pose graph: {closed['loops']} of {closed['tried']} loops hold{after}")
    for name, errors in (metrics["depth"] or {}).items():
        lines.append(
            f"depth, {name:<12} Abs Rel {errors['abs_rel']:.4f}, "
            f"delta < 1.25 {100 * errors['delta'][1]:.2f} %"
        )
    points = metrics["reconstruction"]
    if points is not None:
        lines.append(
            f"points: accuracy {points['accuracy']:.4f} m, "
            f"completion {points['completion']:.4f} m, "
            f"normal consistency {points['normal_consistency']:.3f}"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in metrics["notes"])])


def _checkpoint_path(config: SequenceEvalConfig) -> Path:
    return packaged(TTT3R_SMALL) if config.checkpoint is None else Path(config.checkpoint)
