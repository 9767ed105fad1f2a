"""What a run says of its speed: time per step, FLOPs, memory, gradients by part; traces; wandb."""

import gzip
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.host_memory import resident_bytes
from tttlrm_jax.training.logs import RunLog
from tttlrm_jax.training.optimizer import norms_by_part
from tttlrm_jax.training.watching import profiling, speed
from tttlrm_jax.training.watching.flops import traced_flops, unrolled_flops
from tttlrm_jax.training.watching.profiling import StepTrace
from tttlrm_jax.training.watching.speed import SpeedMeter, Work, memory_values, shown
from tttlrm_jax.training.watching.wandb_log import WANDB_FILE, WandbLog

H200, CPU = (types.SimpleNamespace(device_kind=kind) for kind in ("NVIDIA H200", "cpu"))


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    return clock


def test_time_of_steps_leaves_out_compiling_and_what_is_apart(clock):
    """Two steps of 2 s, of which 0.5 s each wait for data; 7 s compiling, 5 s evaluation."""
    meter = SpeedMeter([H200, H200])
    assert meter.unknown_peak() is None
    for compiled in (7.0, 0.0):
        with meter.waiting():
            clock.now += 0.5
        clock.now += 1.5 + compiled
        assert meter.count(Work(12, 960, 3.956e15, 7.0)) == compiled
    with meter.apart():
        clock.now += 5.0
    values = meter.record()
    expected = {
        "seconds_per_step": 2.0, "data_wait_per_step": 0.5, "views_per_second": 6.0,
        "tokens_per_second": 480.0, "tflop_per_second": 1978.0, "utilisation": 1.0,
    }  # fmt: skip
    for name, value in expected.items():
        assert values[f"speed/{name}"] == pytest.approx(value), name
    seen = values | {"num_skipped": 3.0, "memory/host_gib": 1.5, "memory/device_peak_gib": 7.25}
    assert shown(seen) == (
        "2 s/step, data wait 25 %, 6.00 views/s, 480 tokens/s, 100 % of peak, 7.2 GiB, 3 skipped"
    )
    assert shown({"loss": 1.0}) == ""
    assert meter.record() == {}  # no step since
    clock.now += 1.0
    meter.count(Work(12, 960, 0.0, 7.0))
    assert meter.record()["speed/seconds_per_step"] == pytest.approx(1.0)


def test_unknown_chips_have_flops_and_no_utilisation(clock):
    meter = SpeedMeter([CPU])
    assert "the peak of cpu is not known" in str(meter.unknown_peak())
    clock.now += 2.0
    meter.count(Work(1, 1, 4e12, 0.0))
    values = meter.record()
    assert values["speed/tflop_per_second"] == pytest.approx(2.0)
    assert "speed/utilisation" not in values


def test_memory_of_devices_is_the_fullest_ones(monkeypatch):
    stats = [{"bytes_in_use": 2**30, "peak_bytes_in_use": 5 * 2**30}, {"bytes_in_use": 2**31}, None]
    devices = [types.SimpleNamespace(memory_stats=lambda each=each: each) for each in stats]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    values = memory_values()
    assert (values["memory/device_gib"], values["memory/device_peak_gib"]) == (2.0, 5.0)
    if (held := resident_bytes()) is not None:
        assert values["memory/host_gib"] == pytest.approx(held / 2**30, rel=0.2)


def test_flops_count_loops_branches_convolutions_and_devices():
    x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    square = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    product = 2 * 3 * 4 * 4

    def looped(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=5)[0]

    def branched(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

    assert unrolled_flops(looped, (x, square)) == 5 * product
    assert unrolled_flops(branched, (x, square)) == 2 * product
    image = jax.ShapeDtypeStruct((2, 6, 5, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 7), jnp.float32)

    def convolved(image, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=layout)

    forward = 2 * (2 * 6 * 5) * (3 * 3 * 3) * 7
    assert unrolled_flops(convolved, (image, kernel)) == forward
    of_both = jax.grad(lambda *both: convolved(*both).sum(), argnums=(0, 1))
    assert unrolled_flops(of_both, (image, kernel)) == 3 * forward
    mesh = AbstractMesh((4,), ("scene",))
    split = jax.shard_map(
        lambda x, w: x @ w, mesh=mesh, in_specs=(PartitionSpec("scene"), PartitionSpec()),
        out_specs=PartitionSpec("scene"),
    )  # fmt: skip
    whole = jax.ShapeDtypeStruct((12, 4), jnp.float32)
    assert unrolled_flops(split, (whole, square)) == product  # of one device
    trace = jax.make_jaxpr(split)(whole, square).jaxpr
    assert traced_flops(trace, all_devices=True) == 4 * product


def test_gradient_norms_by_part_sum_up_to_the_whole():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 3, 4)).astype(np.float32)
    block = {"ttt": {"w0": kernel}, "ttt_norm": {"weight": 2 * kernel}, "mlp": {"c_fc": kernel}}
    grads = {
        "tokenizer": {"kernel": kernel}, "input_norm": {"weight": kernel}, "blocks": block,
        "decoder_linear": {"kernel": 3 * kernel}, "decoder_norm": {"weight": 4 * kernel},
    }  # fmt: skip
    norms = {name: float(value) for name, value in norms_by_part(grads).items()}
    one = float(np.linalg.norm(kernel))
    expected = {"tokenizer": 2**0.5, "ttt": 5**0.5, "mlp": 1, "decoder": 5}
    assert norms == {
        f"grad_norm/{k}": pytest.approx(v * one, rel=1e-5) for k, v in expected.items()
    }


@pytest.mark.parametrize("text", ["x", "0", "5-", "15-10", "1-2-3", "-5"])
def test_what_names_no_steps_is_refused(text):
    with pytest.raises(ConfigError, match=r"^profile="):
        RunConfig(name="x", profile=text)


@pytest.mark.parametrize(
    ("profile", "first", "traced"),
    [
        ("", 1, []),
        ("3-4", 1, [3, 4]),
        ("2", 1, [3, 4]),  # behind the one that compiles and the next
        ("2", 5, [7, 8]),  # of a resumed run
        ("2-30", 7, [7, 8]),
        ("1-3", 5, []),  # have been taken before
        ("10-11", 1, []),
    ],
)
def test_traced_steps(monkeypatch, tmp_path, profile, first, traced):
    """Of a call that goes on to step 8."""
    running, seen, said = [], [], []
    folder = tmp_path / "plugins" / "profile" / "now"

    def stop():
        running.clear()
        folder.mkdir(parents=True)
        (folder / "perfetto_trace.json.gz").touch()

    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: running.append(1))
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    trace = StepTrace(profile, tmp_path, first, 8, said.append)
    for number in range(first, 9):
        with trace.step(number):
            seen += [number] * len(running)
        if trace.ends_with(number):
            trace.close()
    trace.close()
    assert seen == traced
    assert len(said) == (profile != "")
    assert said == [] or (f"steps {traced[0]} to" if traced else "no trace") in said[0]


def test_a_trace_has_steps_and_programs(tmp_path):
    said: list[str] = []
    trace = StepTrace("2", tmp_path, 1, 9, said.append)

    @jax.jit
    def work(x):
        return jnp.sin(x) @ x

    for number in range(1, 6):
        with trace.step(number):
            work(jnp.ones((8, 8))).block_until_ready()
        if trace.ends_with(number):
            trace.close()
    (path,) = tmp_path.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert str(path.parent) in said[0]
    with gzip.open(path) as stream:
        events = json.load(stream)["traceEvents"]
    steps = [each["args"]["step_num"] for each in events if each.get("name") == profiling.STEP]
    assert sorted(map(int, steps)) == [3, 4]
    assert "jit_work" in {each.get("args", {}).get("hlo_module") for each in events}
    (path,) = path.parent.glob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    events = [each for plane in planes for line in plane.lines for each in line.events]
    steps = [dict(each.stats)["step_num"] for each in events if each.name == profiling.STEP]
    assert sorted(steps) == [3, 4]


class FakeRun:
    """What `wandb.init` gives, as far as it is used."""

    def __init__(self, **settings):
        self.settings, self.logged, self.steps = settings, [], []

    def define_metric(self, name, step_metric=None):
        self.steps.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.logged.append("end")


@pytest.fixture
def runs(monkeypatch) -> list[FakeRun]:
    """The runs begun on a stand-in for the package."""
    runs: list[FakeRun] = []
    package = types.ModuleType("wandb")
    package.errors = types.SimpleNamespace(Error=type("Error", (Exception,), {}))
    package.Image = lambda sheet: f"picture {sheet.shape}"

    def init(**settings):
        if settings["project"] == "closed":
            raise package.errors.Error("no API key\nconfigured")
        runs.append(FakeRun(**settings))
        return runs[-1]

    package.init = init
    monkeypatch.setitem(sys.modules, "wandb", package)
    return runs


def test_records_go_to_the_same_run_of_wandb_after_a_resumption(tmp_path, runs):
    for step in (1, 2):
        also = WandbLog(tmp_path, RunConfig(name="mine", wandb="scenes"))
        log = RunLog(tmp_path, step - 1, 10, also=also)
        log.write("train", step, {"loss": 0.5, "psnr": np.nan, "speed/views_per_second": 2.0})
        log.preview(step, *[np.zeros((1, 2, 8, 8, 3))] * 3)
        log.close()
    first, second = (run.settings for run in runs)
    assert first["id"] == second["id"]
    assert (first["project"], first["name"], first["resume"]) == ("scenes", "mine", "allow")
    assert first["config"]["train"]["num_steps"] == 80_000
    assert runs[0].logged[0] == {"step": 1, "train/loss": 0.5, "speed/views_per_second": 2.0}
    assert runs[0].logged[1]["eval/preview"].startswith("picture (8, ")
    assert runs[0].logged[2] == "end"
    assert ("*", "step") in runs[0].steps
    WandbLog(tmp_path, RunConfig(name="mine", wandb="others"))
    assert runs[2].settings["id"] != first["id"]
    assert set(json.loads((tmp_path / WANDB_FILE).read_text())) == {"scenes", "others"}


def test_wandb_that_is_missing_or_refuses_is_one_sentence(tmp_path, runs, monkeypatch):
    with pytest.raises(InputError, match=r"wandb=closed cannot be begun .no API key.; run wandb"):
        WandbLog(tmp_path, RunConfig(name="mine", wandb="closed"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"wandb=scenes needs a package .*tttlrm-jax\[wandb\]"):
        WandbLog(tmp_path, RunConfig(name="mine", wandb="scenes"))
