"""Every protocol file builds, fixes fields that exist, and finds its layout."""

import re
from pathlib import Path

import pytest

from tttlrm_jax.apps.protocols.command import table_summary
from tttlrm_jax.apps.protocols.tables import (
    apply_protocol,
    read_protocol,
    scene_names,
    table_row,
)
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.sequences.readers import READERS

FOLDER = Path(__file__).resolve().parents[4] / "configs" / "ttt3r"
FILES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_protocol(path, tmp_path):
    protocol = read_protocol(str(path))
    assert protocol.kind in READERS
    assert protocol.task in path.stem
    assert f"configs/ttt3r/{path.name}" in path.read_text()
    for length in protocol.lengths:
        config = apply_protocol(SequenceEvalConfig(protocol=str(path), length=length))
        assert config.max_frames == length or length is None
        assert config.kind == protocol.kind
    wanted = [re.sub(r"\*", "a_b", pattern) for pattern in protocol.sequences]
    for each in wanted:
        (tmp_path / each).mkdir(parents=True)
    assert {str(each.relative_to(tmp_path)) for each in protocol.find(tmp_path)} == set(wanted)
    with pytest.raises(InputError, match=f"holds no sequence of {protocol.dataset}"):
        protocol.find(tmp_path / wanted[0])


def test_the_tables_of_the_paper_are_there():
    found = {(read_protocol(str(path)).dataset, read_protocol(str(path)).task) for path in FILES}
    assert found == {
        ("Sintel", "pose"), ("TUM-dynamics", "pose"), ("ScanNet", "pose"), ("Sintel", "depth"),
        ("Bonn", "depth"), ("KITTI", "depth"), ("7-Scenes", "reconstruction"),
    }  # fmt: skip


def test_a_file_without_protocol_is_named(tmp_path):
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0")
    for name, message in (("empty", "no SequenceProtocol"), ("broken", "ZeroDivisionError")):
        with pytest.raises(ConfigError, match=message):
            read_protocol(str(tmp_path / f"{name}.py"))


def test_a_row_weighs_depth_and_not_poses():
    def metrics(ate, abs_rel, pixels):
        return {
            "scene": "s", "reconstruction": None,
            "trajectory": {"ate": ate, "rpe_translation": 0.0, "rpe_rotation": 0.0},
            "depth": {"scale": {"abs_rel": abs_rel, "delta": (0, 1, 1, 1), "valid_pixels": pixels}},
        }  # fmt: skip

    row = table_row([metrics(1.0, 0.1, 300), metrics(2.0, 0.5, 100)])
    assert row["pose"]["ate"] == 1.5
    assert row["depth"]["scale"]["abs_rel"] == pytest.approx(0.2)
    none = {"scene": "x", "trajectory": None, "depth": None, "reconstruction": None}
    assert table_row([none]) == {"sequences": 1, "unscored": ["x"]}
    still = metrics(1.0, 0.1, 300) | {"scene": "still", "trajectory": None}
    row = table_row([metrics(1.0, 0.1, 300), still])
    assert (row["pose"]["ate"], row["unscored"]) == (1.0, ["still"])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["chess/seq-03", "fire/seq-03"], ["chess_seq-03", "fire_seq-03"]),
        (["a/b_c", "a_b/c"], ["a_b_c", "a_b_c-2"]),
        (["a/B", "a_b"], ["a_B", "a_b-2"]),  # one folder where case does not count
        (["."], ["root"]),
    ],
)
def test_every_sequence_has_a_name_of_its_own(paths, names):
    root = Path("root")
    found = scene_names([root / path for path in paths], root)
    assert list(found) == names
    assert list(found.values()) == [root / path for path in paths]


def test_notes_of_sequences_are_shown():
    row = {
        "dataset": "d", "task": "pose", "sequences": 1, "rule": "ttt3r", "table": "table 1",
        "listed": {}, "listed_alignment": None, "overrides": {}, "failed": {},
        "notes": {"a": ["trajectory is not scored"]},
    }  # fmt: skip
    assert "note: a: trajectory is not scored" in table_summary(row)


def test_listed_numbers_are_said_to_be_unchecked():
    row = {
        "dataset": "d", "task": "depth", "sequences": 1, "rule": "ttt3r", "table": "table 1",
        "listed": {"abs_rel": 0.1}, "listed_alignment": None, "overrides": {}, "failed": {},
    }  # fmt: skip
    said = "abs_rel 0.1, alignment not stated (secondary listing, unchecked)"
    assert said in table_summary(row)
    assert "alignment scale" in table_summary({**row, "listed_alignment": "scale"})
    assert "alignment" not in table_summary({**row, "task": "pose"})
    assert "see the paper" in table_summary({**row, "listed": {}})
