"""`eval.py` over two processes: one writes, with the numbers of one process."""

import json

import pytest

from tests.slow.processes.test_processes import ROOT, finish, free_port, start

# Without a random share: it takes the same ranks, but these weights are as they were drawn, and
# opacities within round-off of each other change ranks.
OPTIONS = ["--views", "4", "--keep-ratio", "0.5", "--orbit-frames", "2"]
PROGRAM = ROOT / "eval.py"


def started_job(output, *options):
    """Two processes with two devices each that reconstruct one scene."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            *options, *OPTIONS, "--mesh.seq", "4", "--mesh.timeout", "120", "--output",
            str(output), program=PROGRAM, devices=2, TTTLRM_COORDINATOR=address,
            TTTLRM_NUM_PROCESSES="2", TTTLRM_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]  # fmt: skip


@pytest.mark.timeout(1200)
def test_two_processes_write_one_result(tiny_checkpoint, tiny_capture_source, tmp_path):
    paths = ["--checkpoint", str(tiny_checkpoint), "--capture", str(tiny_capture_source)]
    one = start(*paths, *OPTIONS, "--output", str(tmp_path / "one"), program=PROGRAM)
    assert finish(one)[0] == 0
    job = started_job(tmp_path / "job", *paths)
    ended = [finish(process) for process in job]
    assert [code for code, _ in ended] == [0, 0], ended
    alone, together = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "job")
    )
    assert (together["mesh"]["processes"], together["mesh"]["devices"]) == (2, 4)
    for ours, theirs in zip(together["targets"], alone["targets"], strict=True):
        assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=1e-3)
    assert together["num_gaussians_predicted"] == alone["num_gaussians_predicted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "one"]


@pytest.mark.timeout(600)
def test_what_one_process_refuses_ends_all(tiny_checkpoint, tiny_capture_source, tmp_path):
    """The first one alone writes, and finds files of another program; the other does not wait."""
    output = tmp_path / "job"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    paths = ["--checkpoint", str(tiny_checkpoint), "--capture", str(tiny_capture_source)]
    ended = [finish(process) for process in started_job(output, *paths)]
    assert [code for code, _ in ended] == [2, 2], ended
    assert "holds notes.txt, which this command does not write" in ended[0][1]
    assert "another process of this job refused its input" in ended[1][1]
