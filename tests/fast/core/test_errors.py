import pytest

from tttlrm_jax.core.errors import LONGEST, ConfigError, InputError


@pytest.mark.parametrize("kind", [InputError, ConfigError])
def test_whatever_an_error_shows_it_is_one_line_that_can_be_printed(kind):
    name = "a\nb\x1b[31m\udcff\u202e\u2028c"
    shown = str(kind.of("file", name, "is none", "name another"))
    assert shown == r"file=a b\x1b[31m\udcff\u202e c is none; name another"
    shown.encode()


def test_a_long_value_leaves_the_beginning_and_the_end():
    shown = str(InputError.of("file_path", "x" * 100_000, "is too long", "shorten it"))
    assert len(shown) <= LONGEST
    assert shown.startswith("file_path=xxx")
    assert shown.endswith("xxx is too long; shorten it")
    assert str(InputError("short, with 日本語 and é")) == "short, with 日本語 and é"
