"""What a run says: a progress bar, JSON lines, TensorBoard, previews, wandb where it is asked."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter
from tqdm import tqdm

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.training.watching.speed import shown
from tttlrm_jax.training.watching.wandb_log import WandbLog

METRICS_FILE = "metrics.jsonl"
BOARD = "tensorboard"  # directory of a run for what TensorBoard reads


class RunLog:
    """Writes scalars of one run; on resuming, records from the resumed step on are rewritten.

    Of several processes only the first one is to write, the others have a `SilentLog`.
    """

    def __init__(
        self, directory: Path, first_step: int, num_steps: int, *, title: str = "",
        also: WandbLog | None = None,
    ):  # fmt: skip
        self._directory, self._closed, self._also = directory, False, also
        _drop_records_after(directory / METRICS_FILE, first_step)
        self._lines = (directory / METRICS_FILE).open("a")
        self._board = SummaryWriter(str(directory / BOARD), purge_step=first_step + 1)
        self._bar = tqdm(
            desc=title or None, total=num_steps, initial=first_step, unit="step",
            dynamic_ncols=True, file=sys.stderr,
        )  # fmt: skip

    def advance(self) -> None:
        """One step of the bar."""
        self._bar.update()

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Records scalars under `kind` (`train` or `eval`); non-finite ones become null.

        TensorBoard groups them by kind, but those that name a group, as `speed/views_per_second`.
        Raises InputError where the directory cannot be written.
        """
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            self._lines.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
            self._lines.flush()
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        tagged = {n if "/" in n else f"{kind}/{n}": value for n, value in values.items()}
        for tag, value in tagged.items():
            self._check_board()
            self._board.add_scalar(tag, value, step)
        if self._also is not None:
            self._also.write(tagged, step)
        scores = ", ".join(f"{k} {values[k]:.4g}" for k in ("loss", "psnr") if k in values)
        parts = (scores if kind == "train" else f"{kind} {scores}", shown(values))
        self._bar.set_postfix_str(", ".join(filter(None, parts)))

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def preview(self, step: int, inputs, targets, renderings) -> None:
        """Saves `previews/<step>.png`: one row per scene, inputs, then target and rendering.

        Raises InputError where the directory cannot be written.
        """
        sheet = preview_sheet(inputs, targets, renderings)
        path = self._directory / "previews" / f"{step:08d}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(sheet).save(path)
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        self._check_board()
        self._board.add_image("eval/preview", sheet, step, dataformats="HWC")
        if self._also is not None:
            self._also.preview("eval/preview", sheet, step)

    def close(self) -> None:
        """Ends the files; a second time nothing.

        Raises InputError where their last bytes cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        self._bar.close()
        if self._also is not None:
            self._also.close()
        if self._board_is_alive():
            self._board.close()
        try:
            self._lines.close()
        except OSError as error:
            raise self._unwritable(error.strerror) from error

    def _check_board(self) -> None:
        """TensorBoard's thread ends at its first failure to write and would be waited for."""
        if not self._board_is_alive():
            raise self._unwritable("TensorBoard's records failed")

    def _board_is_alive(self) -> bool:
        writer: Any = self._board.file_writer
        worker, events = writer.event_writer._worker, writer.event_writer._event_queue
        if not worker.is_alive():
            events.cancel_join_thread()  # or the process would not end
            return False
        return True

    def _unwritable(self, reason: str | None) -> InputError:
        return InputError.of(
            "run directory", self._directory, f"cannot be written ({reason})",
            "free space on its disk or make it writable; the same command resumes",
        )  # fmt: skip


class SilentLog:
    """In place of a `RunLog`: nothing."""

    def _nothing(self, *arguments: Any) -> None:
        del arguments

    advance = write = say = preview = close = _nothing


def preview_sheet(inputs, targets, renderings) -> np.ndarray:
    """uint8 picture of `[scene, view, height, width, 3]` images in [0, 1].

    Each row shows a scene's inputs, a gap, and its first two targets each beside its rendering.
    """
    inputs, targets, renderings = (np.asarray(x) for x in (inputs, targets, renderings))
    rows = []
    for scene_inputs, scene_targets, scene_renderings in zip(
        inputs, targets, renderings, strict=True
    ):
        gap = np.ones_like(scene_inputs[0][:, :4])
        pairs = [
            np.concatenate([target, rendering, gap], axis=1)
            for target, rendering in zip(scene_targets[:2], scene_renderings[:2], strict=True)
        ]
        rows.append(np.concatenate([*scene_inputs, gap, *pairs], axis=1))
    sheet = np.concatenate(rows, axis=0)
    return np.round(np.clip(sheet, 0, 1) * 255).astype(np.uint8)


def _drop_records_after(path: Path, last_step: int) -> None:
    """Removes records past `last_step`, and a last line that a killed process left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["step"] <= last_step:
            kept.append(line + "\n")
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(kept))
    draft.replace(path)
