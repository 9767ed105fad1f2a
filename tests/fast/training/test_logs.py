"""What a run says of a directory that can no longer be written."""

import errno
import threading

import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.training.logs import METRICS_FILE, RunLog

PICTURES = np.zeros((1, 2, 8, 12, 3), np.float32)


@pytest.fixture
def log(tmp_path):
    log = RunLog(tmp_path, 0, 10)
    yield log
    log.close()


def test_previews_and_records_are_written(log, tmp_path):
    log.write("train", 1, {"loss": 0.5, "psnr": float("nan")})
    log.preview(1, PICTURES, PICTURES, PICTURES)
    assert '"psnr": null' in (tmp_path / METRICS_FILE).read_text()
    assert (tmp_path / "previews" / "00000001.png").is_file()


def test_closing_again_does_nothing(log, tmp_path):
    log.write("train", 1, {"loss": 0.5})
    log.close()
    log.close()
    assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == 1


def test_a_place_for_previews_that_is_no_directory(log, tmp_path):
    (tmp_path / "previews").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        log.preview(1, PICTURES, PICTURES, PICTURES)


def test_full_disk_under_the_records(log, monkeypatch, tmp_path):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(log, "_lines", Full())
    with pytest.raises(InputError, match="No space left"):
        log.write("train", 1, {"loss": 0.5})


def test_full_disk_under_tensorboard_does_not_hang(log, monkeypatch):
    def full(event):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = log._board.file_writer.event_writer
    monkeypatch.setattr(writer._ev_writer, "write_event", full)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # the thread's own traceback

    def write_twice():
        log.write("train", 1, {"loss": 0.5})  # may fail already, by what was queued before
        writer._worker.join(timeout=20)
        log.write("train", 2, {"loss": 0.5})

    with pytest.raises(InputError, match="TensorBoard"):
        write_twice()
