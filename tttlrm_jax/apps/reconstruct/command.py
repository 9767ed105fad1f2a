"""`eval.py`: a capture and a checkpoint in; Gaussians, film, comparison, report, numbers out."""

import contextlib
import datetime
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tttlrm_jax.api.request import choose_frames
from tttlrm_jax.api.scenes import (
    Answer,
    Evaluated,
    Renderer,
    Settings,
    baseline_pictures,
    compiled_reconstruct,
    fitted_resolution,
    pose_scene,
    score,
)
from tttlrm_jax.apps.progress import step
from tttlrm_jax.apps.reconstruct.files import ALL_FILES, Job, write_files
from tttlrm_jax.apps.reconstruct.post_optimize import post_optimize
from tttlrm_jax.apps.reconstruct.state_query import query_state
from tttlrm_jax.apps.reconstruct.stream import (
    check_stream_options,
    measure_stream,
    save_stream,
    state_directory,
    stream_frame,
    with_rule,
)
from tttlrm_jax.apps.rule_arguments import parse_with_rule
from tttlrm_jax.apps.sequences import command as evaluate_ttt3r
from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.models import load_parameters
from tttlrm_jax.checkpoints.streams import read_record, read_stream
from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.output_directory import atomic_directory, disk_errors
from tttlrm_jax.core.packaged_files import QUICKSTART, packaged
from tttlrm_jax.metrics.lpips import LPIPS, MIN_SIDE, load_lpips
from tttlrm_jax.models import abstract_model, build_model, merge_model, split_model

PROG = "eval.py"
MODELS = ("tttlrm", "ttt3r")  # --model; the second has options of its own
ROWS = {
    "nearest_input": "nearest input view",
    "mean_colour": "mean colour of the inputs",
    "untrained": "untrained model",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input, 130 interrupted)."""
    try:
        model, arguments = take_model(sys.argv[1:] if arguments is None else arguments)
        if model == "ttt3r":
            with _interruptible():
                return evaluate_ttt3r.main(arguments)
        config = parse_with_rule(EvalConfig, arguments, PROG)
        with _interruptible():
            if config.query is not None:
                print(query_state(config, _checkpoint(config)))
                return 0
            directory, metrics = evaluate(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(summary(metrics))
    print(f"\n{directory / 'report.html'}")
    return 0


def take_model(arguments: list[str]) -> tuple[str, list[str]]:
    """The value of `--model`, by default tttlrm, and the other arguments.

    Raises InputError for a model that is not known.
    """
    name, others, rest = MODELS[0], [], iter(arguments)
    for argument in rest:
        key, equals, value = argument.partition("=")
        if key == "--model":
            name = value if equals else next(rest, "")
        else:
            others.append(argument)
    if name not in MODELS:
        raise InputError.of("model", repr(name), "is unknown", f"use one of {', '.join(MODELS)}")
    return name, others


def evaluate(config: EvalConfig) -> tuple[Path, dict[str, Any]]:
    """Evaluates a checkpoint on a capture; returns the directory written and its metrics.

    Raises InputError for input that cannot be used; then no directory is left behind.
    """
    checkpoint = _checkpoint(config)
    record = read_record(Path(config.load_state)) if config.load_state else None
    run = with_rule(read_config(checkpoint), config, record)
    settings = Settings.resolve(config, run, None if record is None else record.settings())
    check_stream_options(config, settings, record)
    path = packaged("sample_capture") if config.capture is None else Path(config.capture)
    capture = read_capture(path, skip_missing=config.skip_missing)
    inputs, targets, settings = choose_frames(capture, config, settings, record)
    if record is None:
        settings = settings.pruned_as_trained(config, run)
    similarity, has_scale = None, True
    if record is not None:
        size, similarity, has_scale = record.resolution, record.similarity, record.has_scale
    else:
        size = _resolution(config.resolution, run, capture)
        if settings.plan == "causal":
            first = inputs[: settings.chunk_views]
            similarity, has_scale = stream_frame(capture, first, config, run)
    output = _output(config, capture)
    with (
        atomic_directory(output, ALL_FILES) as directory,
        state_directory(config, output) as state,
    ):
        with step(f"reading {len(inputs)} + {len(targets)} views of {capture.name}"):
            scene = pose_scene(
                capture, inputs, targets, size, settings.background, run.data, similarity
            )
        with step(f"loading {checkpoint}"):
            graph, expected = split_model(abstract_model(run.model))
            params = load_parameters(checkpoint, expected)
            lpips, lpips_note = _lpips(size)
        saved = None
        if config.load_state is not None:
            with step(f"loading {config.load_state}"):
                saved = read_stream(Path(config.load_state), run.model, params, graph)
        job = Job(
            config=config, run=run, settings=settings, capture=capture, scene=scene,
            checkpoint=checkpoint, frames=(inputs, targets), lpips_note=lpips_note,
            saved=saved, has_scale=has_scale,
        )  # fmt: skip
        evaluated = post_optimize(measure(merge_model(graph, params), job, lpips), job, lpips)
        with disk_errors(directory, output):
            metrics = write_files(directory, job, evaluated)
        if state is not None and evaluated.stream is not None:
            with step(f"saving the state to {config.save_state}"):
                save_stream(state, job, params, evaluated.stream)
    return output, metrics


def measure(model, job: Job, lpips: LPIPS | None) -> Evaluated:
    """Reconstructs, renders and scores; the untrained model goes through the same program."""
    if job.settings.plan == "causal":
        return measure_stream(model, job, lpips)
    scene, run = job.scene, job.run
    with step("compiling the model"):
        reconstruct = compiled_reconstruct(model, scene.inputs, job.settings)

    cameras = jax.tree.map(lambda x: x[0], scene.targets.cameras)
    render = Renderer(cameras, job.settings.background, run.raster)

    def answer(params) -> tuple[Any, Any, Answer]:
        made = reconstruct(params)
        shown = render(made.value)
        return made, shown, Answer(pictures=shown.value, scores=score(shown.value, scene, lpips))

    with step("reconstructing and rendering the targets"):
        made, shown, ours = answer(split_model(model)[1])
    with step("baselines"):
        baselines = {
            name: Answer(pictures=pictures, scores=score(pictures, scene, lpips))
            for name, pictures in baseline_pictures(scene).items()
        }
        untrained = build_model(run.model, job.settings.seed)
        baselines["untrained"] = answer(split_model(untrained)[1])[2]
    seconds = {
        "reconstruct": made.seconds,
        "reconstruct_compile": made.compile_seconds,
        "render_per_view": shown.seconds / len(scene.target_names),
        "render_compile": shown.compile_seconds,
    }
    return Evaluated(gaussians=made.value, ours=ours, baselines=baselines, seconds=seconds)


def _checkpoint(config: EvalConfig) -> Path:
    return packaged(QUICKSTART) if config.checkpoint is None else Path(config.checkpoint)


def summary(metrics: dict[str, Any]) -> str:
    """The result as a small table."""
    height, width = metrics["resolution"]
    seconds = metrics["seconds"]
    with_lpips = metrics["lpips"] is not None
    lines = [
        f"{metrics['scene']}: {metrics['input_views']} input views, "
        f"{metrics['target_views']} targets, {width}x{height} pixels, plan {metrics['plan']}",
        "",
        f"{'':<28}{'PSNR dB':>9}{'SSIM':>8}" + (f"{'LPIPS':>8}" if with_lpips else ""),
        _row("this model", metrics["psnr"], metrics["ssim"], metrics["lpips"]),
    ]
    if "post_optimize" in metrics:
        refined = metrics["post_optimize"]
        lines.append(
            _row(
                f"before {refined['steps']} steps on inputs", refined["psnr_before"],
                refined["ssim_before"], refined["lpips_before"],
            )
        )  # fmt: skip
    lines += [
        _row(
            ROWS[name], metrics["baselines"][name], metrics["baselines_ssim"][name],
            metrics["baselines_lpips"][name] if with_lpips else None,
        )
        for name in ROWS
    ]  # fmt: skip
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
        f"{metrics['num_gaussians']} Gaussians; reconstructed in {seconds['reconstruct']:.2f} s "
        f"(compiling {seconds['reconstruct_compile']:.1f} s), rendered in "
        f"{1000 * seconds['render_per_view']:.0f} ms per view on {metrics['device']}",
    ]
    return "\n".join(lines)


def _row(name: str, psnr: float, ssim: float, lpips: float | None) -> str:
    return f"{name:<28}{psnr:>9.2f}{ssim:>8.3f}" + ("" if lpips is None else f"{lpips:>8.3f}")


def _resolution(
    wanted: tuple[int, int] | None, run: RunConfig, capture: Capture
) -> tuple[int, int]:
    patch = run.model.patch_size
    if wanted is None:
        return fitted_resolution(capture.image_size(), run.data.image_size, patch)
    if wanted[0] % patch or wanted[1] % patch:
        nearest = [max(1, round(side / patch)) * patch for side in wanted]
        raise InputError.of(
            "resolution", f"{wanted[0]} {wanted[1]}",
            f"is not a multiple of the patch size {patch}", f"use {nearest[0]} {nearest[1]}",
        )  # fmt: skip
    return wanted


def _output(config: EvalConfig, capture: Capture) -> Path:
    if config.output is not None:
        return Path(config.output)
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in capture.name).strip(".")
    return Path("outputs") / f"{safe or 'scene'}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _lpips(size: tuple[int, int]) -> tuple[LPIPS | None, str]:
    if min(size) < MIN_SIDE["alex"]:
        return None, f"LPIPS needs pictures of at least {MIN_SIDE['alex']} pixels on each side"
    return load_lpips("alex")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets SIGTERM clean up as Ctrl-C does."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    sys.exit(main())
