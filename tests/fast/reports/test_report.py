"""The report pages and the comparison sheet, read back."""

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.fast.reports.cameras import camera
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.point_stream import VERTEX
from tttlrm_jax.reports import reconstruction as report_module
from tttlrm_jax.reports.camera_plots import trajectory_plot
from tttlrm_jax.reports.comparison import ComparedView, comparison_sheet, representative
from tttlrm_jax.reports.heatmap import absolute_error, error_scale, heat
from tttlrm_jax.reports.plots import Panel, Series, line_charts
from tttlrm_jax.reports.reconstruction import Exhibit, Report, report_html
from tttlrm_jax.reports.sequence import SequenceReport, Stills, sequence_report_html

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects elements and checks that every one is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            script = [attributes for tag, attributes in self.elements if tag == "script"][-1]
            name = script.get("id", "code")
            self.texts[name] = self.texts.get(name, "") + text

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def view(name, psnr, seed=0, size=(16, 24)):
    rng = np.random.default_rng(seed)
    images = {k: rng.uniform(size=(*size, 3)) for k in ("target", "rendered", "baseline")}
    return ComparedView(name=name, psnr=psnr, ssim=0.5, baseline_psnr=12.0, **images)


def gaussians(count):
    rng = np.random.default_rng(0)
    return Gaussians(
        *(rng.normal(size=(count, *s)).astype("f") for s in ((3,), (4, 3), (3,), (4,), ()))
    )


@pytest.fixture
def report():
    metrics = {
        "scene": "desk <b>&", "input_views": 2, "target_views": 2, "resolution": [16, 24],
        "plan": "full", "psnr": 20.25, "ssim": 0.5, "lpips": None, "num_gaussians": 40,
        "seconds": {"reconstruct": 0.5, "render_per_view": 0.01},
        "baselines": {"mean_colour": 9.0, "nearest_input": 12.0, "untrained": 8.0},
    }  # fmt: skip
    cameras = [
        camera("in 1", "input", (3, 0, 1)), camera("in 2", "input", (0, 3, 1)),
        camera("t </script>", "target", (2, 2, 1)), camera("t 2", "target", (-2, 2, 0.5)),
        camera("spare", "other", (-3, 0, 1)),
    ]  # fmt: skip
    return Report(
        metrics=metrics, input_names=["in 1", "in 2"],
        inputs=np.random.default_rng(5).uniform(size=(2, 16, 24, 3)),
        views=[view("t </script>", 18.5), view("t 2", 22.0, seed=1)], cameras=cameras,
        gaussians=gaussians(40), video=b"film", background=(1.0, 1.0, 1.0), eps2d=0.3,
        settings={"plan": "full"}, caveats=["Take care & <look>."],
    )  # fmt: skip


def test_page_is_whole_and_asks_for_nothing(report):
    text = report_html(report)
    page = Page(text)
    sources = [v for _, a in page.elements for k, v in a.items() if k in ("src", "poster")]
    assert len(sources) == 2 + 2 * 4 + 1  # inputs, four pictures per view, the film
    assert all(source.startswith("data:") for source in sources)
    links = [a["href"] for _, a in page.elements if "href" in a]  # within the plot of cameras
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"@import|url\((?!#)|https?:|fetch\(|XMLHttpRequest", text)
    assert base64.b64decode(page.find("video")[0]["src"].split(",")[1]) == b"film"
    assert "<b>&" not in text.replace("desk &lt;b&gt;&amp;", "")


def test_page_says_what_metrics_say(report):
    text = report_html(report)
    assert "8.2 dB above" in text or "8.3 dB above" in text
    for number in ("20.25", "12.00 dB", "9.00 dB", "8.00 dB", "18.50", "22.00"):
        assert number in text
    assert "Take care &amp; &lt;look&gt;." in text
    worse = dataclasses.replace(report, metrics=report.metrics | {"psnr": 10.5})
    assert "1.5 dB below" in report_html(worse)


def test_pictures_on_the_page_are_the_pictures(report):
    images = Page(report_html(report)).find("img")
    decoded = Image.open(io.BytesIO(base64.b64decode(images[0]["src"].split(",")[1])))
    np.testing.assert_array_equal(np.asarray(decoded), np.rint(255 * report.inputs[0]))
    assert images[0]["class"] == "crisp"
    assert all(image["alt"] for image in images)


def test_viewer_gets_the_scene(report, monkeypatch):
    page = Page(report_html(report))
    scene = json.loads(page.texts["scene"])
    assert [camera["role"] for camera in scene["cameras"]] == ["target"] * 2 + ["input"] * 2
    assert scene["cameras"][scene["first"]]["name"] == "t 2"  # the best view
    np.testing.assert_allclose(scene["cameras"][0]["pose"], report.cameras[2].world_from_camera)
    assert scene["up"][2] > 0.9
    assert len(base64.b64decode(page.texts["splats"])) == 40 * 32
    monkeypatch.setattr(report_module, "MAX_VIEWER_GAUSSIANS", 25)
    text = report_html(report)
    assert len(base64.b64decode(Page(text).texts["splats"])) == 25 * 32
    assert "Shows the 25 most important of 40 Gaussians" in text


def test_a_page_says_what_the_weights_have_seen(report):
    assert "What the weights have seen" not in report_html(report)
    told = dataclasses.replace(report, provenance="Trained on <sofas>.")
    assert "<p>Trained on &lt;sofas&gt;.</p>" in report_html(told)


def small_plot():
    series = [Series(name="<mean>", values=[1.0, 2.0])]
    return line_charts("t", "s", [1, 2], "x", [Panel(title="<t>", unit="dB", series=series)])


def test_a_page_of_a_stream_shows_plot_and_film(report):
    chunks = [{"views_seen": 1, "psnr": 17.125}, {"views_seen": 2, "psnr": 20.25}]
    text = report_html(dataclasses.replace(
        report, metrics=report.metrics | {"stream": chunks},
        stream=Exhibit(plot=small_plot(), film=b"growth"),
    ))  # fmt: skip
    page = Page(text)
    films = [base64.b64decode(film["src"].split(",")[1]) for film in page.find("video")]
    assert films == [b"growth", b"film"]
    assert len(page.find("svg")) == 2
    assert "2 input views came in 2 chunks and became" in " ".join(text.split())
    assert "17.12 dB, after 2 with" in " ".join(text.split())


@pytest.mark.parametrize("known", [True, False])
def test_a_page_of_a_sequence(known):
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = np.arange(4)
    poses[2, 0, 3] = np.nan
    errors = {"abs_rel": 0.25, "rmse": 1.5, "log_rmse": 0.125, "delta": [0, 0.5, 0.75],
              "valid_pixels": 1234}  # fmt: skip
    trajectory = {"ate": 0.5, "frames": 4, "rpe_translation": 0.1, "rpe_rotation": 2.0}
    metrics = {
        "scene": "room <b>", "frames": 4, "resolution": [6, 8], "num_points": 12345,
        "trajectory": trajectory if known else None, "notes": ["mind <this>"],
        "depth": {"metric": errors, "scale_shift": errors} if known else None,
        "seconds": {"per_frame": 0.5}, "peak_memory_mib": 99.6,
    }  # fmt: skip
    stills = Stills()
    stills.offer("frame <0>", np.zeros((6, 8, 3), np.uint8), *rng.uniform(1, 2, (2, 6, 8)))
    points = np.zeros(10, VERTEX)
    text = sequence_report_html(SequenceReport(
        metrics=metrics, trajectory=trajectory_plot(poses[:2], None, "<title>"),
        charts=small_plot() if known else None, stills=stills.chosen, points=points, poses=poses,
        focal=8.0, settings={"rule": "<rule>"},
    ))  # fmt: skip
    page = Page(text)
    assert len(page.find("img")) == 3
    assert len(page.find("svg")) == 1 + known
    assert len(base64.b64decode(page.texts["splats"])) == 10 * 32
    scene = json.loads(page.texts["scene"])
    assert [camera["pose"][0][3] for camera in scene["cameras"]] == [0, 1, 3]
    for words in ("room &lt;b&gt;", "frame &lt;0&gt;", "&lt;rule&gt;", "mind &lt;this&gt;"):
        assert words in text
    for words in ("0.5 m</b>", "as predicted", "scale and shift", "0.1250"):
        assert (words in text) == known
    assert ("There is no true trajectory" in text) != known


def test_page_without_any_valid_gaussian(report):
    broken = dataclasses.replace(
        report, gaussians=report.gaussians.replace(mean=np.full((40, 3), np.nan, "f"))
    )
    scene = json.loads(Page(report_html(broken)).texts["scene"])
    assert np.isfinite([*scene["centre"], scene["radius"]]).all()


def test_comparison_shows_pixels_as_they_are():
    views = [view(f"view {i}", psnr=20.0 + i, seed=i) for i in range(2)]
    inputs = np.random.default_rng(9).uniform(size=(3, 16, 24, 3))
    sheet = comparison_sheet("title", "subtitle", inputs, views)
    assert sheet.dtype == np.uint8
    for image, factor in ((views[1].target, 13), (views[0].rendered, 13), (views[1].baseline, 13)):
        block = np.rint(255 * image[4:8, 4:8]).astype(np.uint8)
        assert contains(sheet, block.repeat(factor, 0).repeat(factor, 1))


def contains(sheet, block):
    """Whether the block appears somewhere in the sheet, pixel by pixel."""
    height, width = block.shape[:2]
    starts = np.argwhere((sheet == block[0, 0]).all(axis=-1))
    for row, column in starts:
        part = sheet[row : row + height, column : column + width]
        if part.shape == block.shape and (part == block).all():
            return True
    return False


@pytest.mark.parametrize("size", [(8, 8), (40, 16), (16, 88), (360, 640), (700, 500)])
@pytest.mark.parametrize("num_inputs", [1, 5, 20])
def test_comparison_of_any_size(size, num_inputs):
    inputs = np.zeros((num_inputs, *size, 3))
    sheet = comparison_sheet("t", "s", inputs, [view("name" * 40, 20.0, size=size)] * 2)
    assert sheet.shape[2] == 3
    assert max(sheet.shape) < 4000


def test_representative_views():
    assert representative([3.0, 1.0, 2.0], 6) == [0, 1, 2]
    scores = [5.0, 9.0, 1.0, 7.0, 3.0]
    assert representative(scores, 3) == [1, 0, 2]  # best, middle, worst


def test_errors_and_their_colours():
    image = np.zeros((2, 2, 3))
    image[0, 0] = [0.3, 0.6, 5.0]  # clipped to 1
    error = absolute_error(image, np.zeros((2, 2, 3)))
    np.testing.assert_allclose(error[0, 0], (0.3 + 0.6 + 1.0) / 3, rtol=1e-6)
    assert error_scale(error) == 1.0
    assert error_scale(error * 0.05) == 0.05
    ramp = heat(np.linspace(0, 2, 21), 1.0).astype(int)
    assert (np.diff(ramp.sum(axis=-1))[:10] > 0).all()
    np.testing.assert_array_equal(ramp[10:], ramp[[10]].repeat(11, axis=0))
