"""The scene at every moment of a run, with a slider over them."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from tttlrm_jax.apps.view.splats import ShownSplats, shown_splats
from tttlrm_jax.core.types import Gaussians

MOST_BYTES = 2**28  # of the moments kept; beyond, every second one is left out
NODE = "/splats"


@dataclasses.dataclass(frozen=True, eq=False)
class SceneMoment:
    """What the scene was then."""

    label: str
    gaussians: Gaussians
    shown: ShownSplats

    @property
    def num_bytes(self) -> int:
        coefficients = self.gaussians.sh.shape[-2]
        return self.shown.num_bytes + 4 * len(self.gaussians.mean) * (11 + 3 * coefficients)


class Moments:
    """Shows the newest moment, or the one at the slider where somebody has moved it."""

    def __init__(self, server: Any, on_shown: Callable[[SceneMoment], None]):
        self._server, self._on_shown = server, on_shown
        self._kept: list[SceneMoment] = []
        self._slider: Any = None
        self._node: Any = None
        self._current: SceneMoment | None = None
        self._follows, self._visible, self._lock = True, True, threading.RLock()

    def add(self, label: str, gaussians: Gaussians) -> None:
        """One more moment; `label` says of it what a user wants to know."""
        moment = SceneMoment(label, gaussians, shown_splats(gaussians))
        with self._lock:
            self._kept.append(moment)
            while len(self._kept) > 2 and sum(each.num_bytes for each in self._kept) > MOST_BYTES:
                self._kept = [*self._kept[:-1:2], self._kept[-1]]
            self._set_slider()
            if self._follows:
                self._show(moment)

    def set_visible(self, visible: bool) -> None:
        """Whether the browser draws the splats."""
        with self._lock:
            self._visible = visible
            if self._node is not None:
                self._node.visible = visible

    def _set_slider(self) -> None:
        last = len(self._kept) - 1
        if last < 1:
            return
        if self._slider is None:
            self._slider = self._server.gui.add_slider(
                "moment", min=0, max=last, step=1, initial_value=last,
                hint="the scene at an earlier moment; at the right end it follows the run",
            )  # fmt: skip
            self._slider.on_update(lambda _: self._moved())
        self._slider.max = last
        if self._follows:
            self._slider.value = last

    def _moved(self) -> None:
        with self._lock:
            number = min(int(self._slider.value), len(self._kept) - 1)
            self._follows = number == len(self._kept) - 1
            self._show(self._kept[number])

    def _show(self, moment: SceneMoment) -> None:
        if moment is self._current:  # setting the slider has shown it
            return
        self._current, shown = moment, moment.shown
        self._node = self._server.scene.add_gaussian_splats(
            NODE, centers=shown.centers, covariances=shown.covariances, rgbs=shown.rgbs,
            opacities=shown.opacities, scale=shown.unit, visible=self._visible,
        )  # fmt: skip
        self._on_shown(moment)
