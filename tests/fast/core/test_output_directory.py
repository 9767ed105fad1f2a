import errno
import os
from pathlib import Path

import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import atomic_directory, disk_errors

OWN = ("a.txt", "b.txt")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_appears_only_at_the_end(tmp_path):
    target = tmp_path / "x" / "y"
    with atomic_directory(target, OWN) as draft:
        (draft / "a.txt").write_text("1")
        assert not target.exists()
    assert names(target) == ["a.txt"]
    assert names(tmp_path / "x") == ["y"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(tmp_path, failure):
    (tmp_path / "kept").mkdir()

    def fail_half_way():
        with atomic_directory(tmp_path / "kept" / "x" / "y", OWN) as draft:
            (draft / "a.txt").write_text("1")
            raise failure

    with pytest.raises(failure):
        fail_half_way()
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == []


def test_an_earlier_result_is_replaced_whole_or_kept(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    (target / "a.txt").write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_directory(target, OWN):
        raise ValueError("stop")
    assert (target / "a.txt").read_text() == "old"
    with atomic_directory(target, OWN) as draft:
        (draft / "b.txt").write_text("new")
    assert names(target) == ["b.txt"]
    assert names(tmp_path) == ["result"]


@pytest.mark.parametrize(("renamed", "left"), [(1, "a.txt"), (2, "b.txt")])
def test_an_interrupt_between_names_leaves_one_whole_result(tmp_path, monkeypatch, renamed, left):
    target, rename, done = tmp_path / "result", Path.rename, []
    target.mkdir()
    (target / "a.txt").write_text("old")

    def interrupted(path, place):
        made = rename(path, place)
        done.append(place)
        if len(done) == renamed:
            raise KeyboardInterrupt
        return made

    def replace():
        with atomic_directory(target, OWN) as draft:
            (draft / "b.txt").write_text("new")
            monkeypatch.setattr(Path, "rename", interrupted)

    with pytest.raises(KeyboardInterrupt):
        replace()
    assert names(target) == [left]
    assert names(tmp_path) == ["result"]


def test_foreign_files_are_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.tex"), atomic_directory(tmp_path, OWN):
        pass
    assert names(tmp_path) == ["thesis.tex"]


def test_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot be written"),
        atomic_directory(tmp_path / "file" / "x" / "y", OWN),
    ):
        pass
    assert names(tmp_path) == ["file"]


def disk_full(*filename):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *filename)


def write_until_full(directory, named):
    (directory / "a.txt").write_text("1")
    raise disk_full(str(directory / "b.txt")) if named else disk_full()


@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, named):
    target = tmp_path / "x" / "y"
    with (
        pytest.raises(InputError, match=r"state=.*/x/y cannot be written \(No space left.*; free"),
        atomic_directory(target, OWN, "state") as draft,
    ):
        write_until_full(draft, named)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError("odd"),
    ],
)
def test_errors_about_other_files_are_not_claimed(tmp_path, wrong):
    with pytest.raises(type(wrong)) as raised, atomic_directory(tmp_path / "y", OWN):
        raise wrong
    assert raised.value is wrong
    assert names(tmp_path) == []


def test_a_film_writer_that_ends_early_is_a_failure_to_write(tmp_path):
    def send_frames():
        try:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        except Exception:
            raise OSError("FFMPEG COMMAND:\n...")  # noqa: B904, as imageio-ffmpeg does

    with (
        pytest.raises(InputError, match=r"output=.* \(Broken pipe\)") as raised,
        atomic_directory(tmp_path / "y", OWN),
    ):
        send_frames()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("outer_is_full", [True, False])
def test_of_two_open_drafts_the_full_one_is_named(tmp_path, outer_is_full):
    output, state = tmp_path / "output", tmp_path / "state"

    def write_both():
        with atomic_directory(output, OWN) as first, atomic_directory(state, OWN, "state") as other:
            with disk_errors(first, output):
                if outer_is_full:
                    write_until_full(first, named=False)
            write_until_full(other, named=False)

    field = "output" if outer_is_full else "state"
    with pytest.raises(InputError, match=rf"^{field}=.*/{field} cannot be written"):
        write_both()
    assert names(tmp_path) == []


def test_a_result_that_cannot_be_put_in_place_keeps_the_earlier_one(tmp_path, monkeypatch):
    target = tmp_path / "result"
    target.mkdir()
    (target / "a.txt").write_text("old")
    rename = Path.rename

    def fail_for_the_draft(path, to):
        if path.suffix == ".partial":
            raise disk_full(str(path))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail_for_the_draft)
    with pytest.raises(InputError, match="No space left"), atomic_directory(target, OWN) as draft:
        (draft / "b.txt").write_text("new")
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["result"]
