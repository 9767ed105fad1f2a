"""`eval.py`: a capture and a checkpoint in; Gaussians, film, comparison, report, numbers out."""

import contextlib
import dataclasses
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tttlrm_jax.api.mesh_scenes import check_mesh, is_parted, over_devices
from tttlrm_jax.api.models import SceneModel, load_run, with_rule
from tttlrm_jax.api.poses.cameras_found import KEPT_IN, capture_with_poses
from tttlrm_jax.api.request import Request, as_wished, check_has_gaussians, resolve
from tttlrm_jax.api.scenes import BASELINES, pose_scene
from tttlrm_jax.api.streams import check_state_target
from tttlrm_jax.apps.interruptions import interruptible
from tttlrm_jax.apps.progress import STARTED, announced
from tttlrm_jax.apps.protocols import scene_command as evaluate_scenes
from tttlrm_jax.apps.protocols.files import named_protocol
from tttlrm_jax.apps.protocols.tables import is_of_sequences
from tttlrm_jax.apps.reconstruct.devices import join_processes, output_of_all, written_once
from tttlrm_jax.apps.reconstruct.files import (
    ALL_FILES,
    write_exhibits,
    write_mesh,
    write_result,
)
from tttlrm_jax.apps.reconstruct.gaussian_files import check_writable
from tttlrm_jax.apps.reconstruct.job import Evaluated, Job
from tttlrm_jax.apps.reconstruct.measure import measure, post_optimize
from tttlrm_jax.apps.reconstruct.state_query import query_state
from tttlrm_jax.apps.rule_arguments import parse_with_rule
from tttlrm_jax.apps.view.runs import ScenePage, opened_page
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.outliers import checked_outliers
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.streams import STATE_FILES, read_record, read_stream
from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from tttlrm_jax.config.validation import require
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import (
    atomic_directory,
    check_replaceable,
    creation_errors,
    default_output,
    disk_errors,
)
from tttlrm_jax.core.files.packaged_files import QUICKSTART, TOY, capture_path, packaged
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.metrics.lpips import LPIPS, MIN_SIDE, load_lpips
from tttlrm_jax.parallel.processes import begun_together, is_first_process
from tttlrm_jax.per_scene.memory import check_room
from tttlrm_jax.per_scene.settings import anytime_config

PROG = "eval.py"
# options that change no number of ours
NOT_NUMBERS = (
    "save", "save_mesh", "write_cameras", "orbit_frames", "output", "compile_cache",
    "untrained_baseline", "view", "host", "port",
)  # fmt: skip
DEMO_VIEWS, DEMO_SECONDS = 12, 20.0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input, 130 interrupted)."""
    try:
        model, arguments = take_model(sys.argv[1:] if arguments is None else arguments)
        with interruptible():
            if told := MODELS[model](arguments):
                print(told)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as stop:
        print(f"interrupted; {str(stop) or 'nothing was written'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def run(arguments: list[str]) -> str:
    """Evaluates models of posed pictures on a capture or a protocol's scenes, or queries a saved
    state; returns what to tell the user."""
    if named_protocol(arguments) is not None:
        return evaluate_scenes.run(arguments)
    config = demonstration(parse_with_rule(EvalConfig, arguments, PROG))
    if config.compile_cache:
        keep_programs()
    check_has_gaussians(config, read_config(_checkpoint(config)))
    check_writable(config)
    if config.query is not None:
        return query_state(config, _checkpoint(config))
    join_processes(config)
    with opened_page(config) as page, written_once(config) as config:
        directory, metrics = evaluate(config, None if page is None else ScenePage(page))
        if not is_first_process():
            return ""
        told = f"{summary(metrics)}\n\n{directory / 'report.html'}"
        refused = metrics.get("not_saved")
        if refused or page is not None:
            print(told)
            told = ""
        if page is not None:
            page.wait_after_run(directory)
        if refused:
            raise InputError(f"{' '.join(refused.values())} All else is in {directory}.")
    return told


def run_sequence(arguments: list[str]) -> str:
    """Evaluates TTT3R; returns what to tell the user."""
    from tttlrm_jax.apps.sequences import command  # takes a quarter of a second

    return command.run(arguments)


# by --model, the default first; each has options of its own
MODELS = {"tttlrm": run, "ttt3r": run_sequence}


def demonstration(config: EvalConfig) -> EvalConfig:
    """What is done where nothing is asked for but files: the toy in the package, improved.

    With any option that changes a number the sample in the package is reconstructed, as asked.
    """
    files = {name: getattr(config, name) for name in NOT_NUMBERS}
    if config != EvalConfig(**files):
        return config
    return dataclasses.replace(config, capture=TOY, views=DEMO_VIEWS, seconds=DEMO_SECONDS)


def take_model(arguments: list[str]) -> tuple[str, list[str]]:
    """The value of `--model`, and the other arguments.

    Where it is not given, the model that a `--protocol` is for, else tttlrm. Raises InputError for
    a model that is not known.
    """
    name, others, rest = None, [], iter(arguments)
    for argument in rest:
        key, equals, value = argument.partition("=")
        if key == "--model":
            name = value if equals else next(rest, "")
        else:
            others.append(argument)
    if name is None:
        protocol = named_protocol(others)
        sequences = protocol is not None and is_of_sequences(protocol)
        name = "ttt3r" if sequences else next(iter(MODELS))
    if name not in MODELS:
        raise InputError.of("model", repr(name), "is unknown", f"use one of {', '.join(MODELS)}")
    return name, others


def evaluate(config: EvalConfig, page: ScenePage | None = None) -> tuple[Path, dict[str, Any]]:
    """Evaluates a checkpoint on a capture; returns the directory written and its metrics. A `page`
    shows what has been made so far.

    What one pass gives is there first, and a stream's state; refined Gaussians take its place,
    films and a page join it. Raises InputError for input that cannot be used; then no directory is
    left behind.
    """
    checkpoint = _checkpoint(config)
    with begun_together():
        if config.output is not None:  # before cameras are looked for, which may take minutes
            target = Path(config.output).absolute()
            with creation_errors(target):
                check_replaceable(target, ALL_FILES, "output")
        run, capture, request = _asked(config, checkpoint)
    output = Path(config.output or default_output(capture.name, "scene"))
    with state_directory(config, output) as state:
        with output_of_all(output, ALL_FILES) as directory:
            job = _read(config, run, checkpoint, capture, request, output)
            if page is not None:
                job = dataclasses.replace(job, page=page)
                page.begin(job)
            evaluated = measure(job)
            with disk_errors(directory, output):
                metrics = write_result(directory, job, evaluated)
        if state is not None and evaluated.stream is not None:
            with announced(f"saving the state to {config.save_state}"):
                evaluated.stream.stream.write(state)
    return output, _finish(job, evaluated, metrics)


def _asked(config: EvalConfig, checkpoint: Path) -> tuple[RunConfig, Capture, Request]:
    """The checkpoint's configuration as wished, the capture, and what is asked of both.

    Raises InputError where they do not go together.
    """
    record = read_record(Path(config.load_state)) if config.load_state else None
    run = as_wished(with_rule(read_config(checkpoint), config.rule, record), config)
    capture = _capture(config)
    request = resolve(config, run, capture, record)
    check_mesh(config, run, request)
    return run, capture, request


def _capture(config: EvalConfig) -> Capture:
    """The capture with its cameras, which are looked for where they are not in a file."""
    poses = config.poses
    if jax.process_count() > 1:  # each would find its own
        poses = poses or "file"
        require(
            poses == "file", "poses", poses, "needs a single process",
            "find the cameras first, and give the directory NAME-sfm as the capture",
        )  # fmt: skip
    keep_in = Path(config.output).parent if config.output else KEPT_IN
    capture = capture_with_poses(
        capture_path(config.capture), poses, keep_in=keep_in,
        film_frames=config.film_frames, checkpoint=config.poses_checkpoint,
        skip_missing=config.skip_missing, intrinsics_scale=config.intrinsics_scale,
    )  # fmt: skip
    return checked_outliers(capture, config.drop_outliers)


def _finish(job: Job, evaluated: Evaluated, metrics: dict[str, Any]) -> dict[str, Any]:
    """Refines and adds films and the page; returns the metrics that are there then."""
    picture, seconds = job.output / "comparison.png", time.perf_counter() - STARTED
    print(f"  {metrics['psnr']:.2f} dB after {seconds:.1f} s: {picture}", file=sys.stderr)
    try:
        if job.config.post_optimize or job.config.seconds:
            evaluated = post_optimize(evaluated, job)
            with _added_to(job.output) as directory:
                metrics = write_result(directory, job, evaluated)
        if job.config.save_mesh is not None:
            with _added_to(job.output) as directory:
                metrics = write_mesh(directory, job, evaluated, metrics)
        with _added_to(job.output) as directory:
            write_exhibits(directory, job, evaluated, metrics)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{job.output} holds what was ready") from None
    return metrics


@contextlib.contextmanager
def _added_to(output: Path) -> Iterator[Path]:
    """A directory with the files of `output`, whose place it takes at the end."""
    with atomic_directory(output, ALL_FILES) as directory, disk_errors(directory, output):
        shutil.copytree(output, directory, dirs_exist_ok=True, symlinks=True)
        yield directory


def _read(
    config: EvalConfig,
    run: RunConfig,
    checkpoint: Path,
    capture: Capture,
    request: Request,
    output: Path,
) -> Job:
    """Pixels, weights and the saved stream. Raises InputError where they cannot be read."""
    counts = f"{len(request.inputs)} + {len(request.targets)}"
    with announced(f"reading {counts} views of {capture.name}"):
        seen = pose_scene(capture, request, run.data)
        scene = seen.at(request.shown)
    if config.seconds is not None:
        check_room(scene.photographs, anytime_config(config.seconds, **config.of_improving()))
    with announced(f"loading {checkpoint}"):
        model = load_run(checkpoint, run)
        if is_parted(config.mesh) and isinstance(model, SceneModel):
            model = over_devices(model, config.mesh)
        lpips, note = _lpips(request.shown)
    saved = None
    if config.load_state is not None:
        with announced(f"loading {config.load_state}"):
            saved = read_stream(Path(config.load_state), run.model, model.params, model.graph)
    return Job(
        config=config, model=model, request=request, capture=capture, seen=seen, scene=scene,
        lpips=lpips, lpips_note=note, saved=saved, output=output,
    )  # fmt: skip


@contextlib.contextmanager
def state_directory(config: EvalConfig, output: Path) -> Iterator[Path | None]:
    """A directory for the new state that appears at the end, complete; None if none is wanted.

    Raises InputError before anything is written where a state is there already and may not be
    replaced, or where it would lie in the output directory or the other way round.
    """
    if config.save_state is None:
        yield None
        return
    target = Path(config.save_state)
    first, second = (path.absolute().resolve() for path in (target, output))
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise InputError.of(
            "save_state", target, f"and the output directory {output} lie within each other",
            "choose another directory",
        )  # fmt: skip
    check_state_target(target, config.overwrite_state)
    with atomic_directory(target, STATE_FILES, "save_state") as directory:
        yield directory


def _checkpoint(config: EvalConfig) -> Path:
    return packaged(QUICKSTART) if config.checkpoint is None else Path(config.checkpoint)


def summary(metrics: dict[str, Any]) -> str:
    """The result as a small table."""
    height, width = metrics["resolution"]
    seconds, names = metrics["seconds"], ("psnr", "ssim", "lpips")
    rows = [("this model", *(metrics[name] for name in names))]
    if "post_optimize" in metrics:
        refined = metrics["post_optimize"]
        before = (refined[f"{name}_before"] for name in names)
        rows.append((f"before {refined['steps']} steps on inputs", *before))
    tables = [metrics["baselines" + suffix] for suffix in ("", "_ssim", "_lpips")]
    known = {name: shown for name, shown in BASELINES.items() if name in metrics["baselines"]}
    rows += [(shown, *(table[name] for table in tables)) for name, shown in known.items()]
    lines = [
        f"{metrics['scene']}: {metrics['input_views']} input views, "
        f"{metrics['target_views']} targets, {width}x{height} pixels, plan {metrics['plan']}",
        "",
        f"{'':<28}{'PSNR dB':>9}{'SSIM':>8}" + ("" if metrics["lpips"] is None else "   LPIPS"),
        *(_row(*row) for row in rows),
    ]
    if "stream" in metrics:
        lines += ["", f"{'views seen':<12}{'PSNR dB':>9}{'SSIM':>8}{'seconds':>9}"]
        lines += [
            f"{entry['views_seen']:<12}{entry['psnr']:>9.2f}{entry['ssim']:>8.3f}"
            f"{entry['seconds']:>9.2f}"
            for entry in metrics["stream"]
        ]
    if "post_optimize" in seconds:
        lines += ["", f"refined on the inputs in {seconds['post_optimize']:.2f} s"]
    lines += [
        "",
        f"{_held(metrics)}; reconstructed in {seconds['reconstruct']:.2f} s "
        f"(compiling {seconds['reconstruct_compile']:.1f} s), rendered in "
        f"{1000 * seconds['render_per_view']:.0f} ms per view on {metrics['device']}",
        *(f"note: {note}" for note in metrics["notes"]),
    ]
    return "\n".join(lines)


def _held(metrics: dict[str, Any]) -> str:
    """What the scene is kept as."""
    if "num_gaussians" in metrics:
        return f"{metrics['num_gaussians']} Gaussians"
    return f"{metrics['state_numbers']} numbers of fast weights"


def _row(name: str, psnr: float, ssim: float, lpips: float | None) -> str:
    return f"{name:<28}{psnr:>9.2f}{ssim:>8.3f}" + ("" if lpips is None else f"{lpips:>8.3f}")


def _lpips(size: tuple[int, int]) -> tuple[LPIPS | None, str]:
    if min(size) < MIN_SIDE["alex"]:
        return None, f"LPIPS needs pictures of at least {MIN_SIDE['alex']} pixels on each side"
    return load_lpips("alex")


if __name__ == "__main__":
    sys.exit(main())
