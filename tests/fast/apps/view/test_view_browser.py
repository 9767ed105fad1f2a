"""The live viewer in a headless Chromium: the page opens, shows the scene, follows the camera."""

import base64
import importlib.util
import io
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.view.frusta import ShownCamera
from tttlrm_jax.apps.view.live import LiveView
from tttlrm_jax.config.viewer import ViewerOptions
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Gaussians

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WIDTH, HEIGHT = 800, 600
PATIENCE = 120.0  # seconds until a page that does not come is a failure
pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(
        importlib.util.find_spec("viser") is None, reason="viser (extra `viewer`) is not installed"
    ),
]


class Browser:
    """A page in Chromium, through its debugging protocol."""

    def __init__(self, folder, address: str):
        from websockets.sync.client import connect

        assert CHROMIUM is not None
        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--use-gl=angle",
             "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={folder}",
             f"--window-size={WIDTH},{HEIGHT}", address],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = folder / "DevToolsActivePort"
        until(lambda: port_file.is_file() and port_file.read_text().count("\n") >= 1)
        port = port_file.read_text().split()[0]
        pages = until(lambda: self._pages(port))
        self._socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None)
        self._number = 0

    @staticmethod
    def _pages(port: str) -> list[dict]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            return [each for each in json.load(answer) if each["type"] == "page"]

    def call(self, method: str, **parameters) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == self._number:
                return answer["result"]

    def picture(self) -> np.ndarray:
        """What the page shows without the panel on its right, [height, width, 3]."""
        taken = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(taken)).convert("RGB")).astype(int)[:, :420]

    def drag(self, along: int) -> None:
        """Turns the camera."""

        def mouse(kind, x, **more):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=300, button="left", **more)

        mouse("mousePressed", 200, clickCount=1, buttons=1)
        for step in range(1, 6):
            mouse("mouseMoved", 200 + along * step / 5, buttons=1)
        mouse("mouseReleased", 200 + along, clickCount=1)

    def close(self) -> None:
        self._socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)


def until(holds: Callable, patience: float = PATIENCE):
    """What `holds` gives once that is true."""
    begun = time.monotonic()
    while not (found := holds()):
        assert time.monotonic() - begun < patience
        time.sleep(0.25)
    return found


def at_rest(browser: Browser) -> np.ndarray:
    """A picture that does not change any more."""
    last = browser.picture()
    while np.abs(last - (new := browser.picture())).max() > 8:
        last = new
        time.sleep(0.5)
    return new


def red_share(picture: np.ndarray) -> float:
    return float(np.mean((picture[..., 0] > 120) & (picture[..., 1:].max(axis=-1) < 90)))


def green_share(picture: np.ndarray) -> float:
    return float(np.mean((picture[..., 1] > 120) & (picture[..., ::2].max(axis=-1) < 90)))


def ball(colour: tuple[float, float, float], other: tuple[float, float, float]) -> Gaussians:
    """Opaque, of two colours above and below, in front of the cameras."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(400, 3))
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    base = np.where(mean[:, 1:2] < 0, colour, other)
    parts = (
        mean, (base[:, None] - 0.5) / 0.28209479, np.full((400, 3), -2.0),
        np.tile([1.0, 0, 0, 0], (400, 1)), np.full(400, 4.0),
    )  # fmt: skip
    return Gaussians(*(part.astype(np.float32) for part in parts))


def test_the_page_shows_the_scene_and_follows_the_camera(tmp_path):
    """Splats, then a camera that moves, an earlier moment, pictures drawn on the server."""
    poses = look_at(
        4 * np.array([[0.3, 0, -1], [0.9, 0, -0.4]]), np.zeros(3), np.array([0, -1.0, 0])
    )
    page = LiveView(ViewerOptions(port=0), "test", (0.1, 0.1, 0.1))
    browser = None
    try:
        grey, lens = np.full((30, 40, 3), 128, np.uint8), np.array([40.0, 40, 20, 15])
        page.show_cameras([
            ShownCamera(name=str(n), world_from_camera=pose, intrinsics=lens, size=(30, 40),
                        picture=grey)
            for n, pose in enumerate(poses)
        ])  # fmt: skip
        page.add_moment("first", ball((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
        browser = Browser(tmp_path / "chromium", page.address)
        until(lambda: green_share(browser.picture()) > 0.02)
        assert page.was_visited
        settled = at_rest(browser)
        assert settled.std() > 10
        assert red_share(settled) < 0.002
        browser.drag(150)
        until(lambda: np.abs(browser.picture() - settled).mean() > 1)

        page.add_moment("second", ball((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
        until(lambda: red_share(browser.picture()) > 0.02)
        page._moments._slider.value = 0
        until(lambda: green_share(browser.picture()) > 0.02)

        page._exact_switch.value = True
        until(lambda: "pixels in" in page._exact_said.content)
        until(lambda: green_share(browser.picture()) > 0.02)
        exact = at_rest(browser)
        browser.drag(-150)
        until(lambda: np.abs(browser.picture() - exact).mean() > 1)
        assert not page.failed
    finally:
        if browser is not None:
            browser.close()
        page.close()
