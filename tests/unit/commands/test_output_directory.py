import pytest

from tttlrm_jax.commands.output_directory import atomic_directory
from tttlrm_jax.errors import InputError

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
