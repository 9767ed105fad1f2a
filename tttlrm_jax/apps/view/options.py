"""What `python -m tttlrm_jax.view` reads."""

import dataclasses

import tyro

from tttlrm_jax.config.validation import RGB, PathText, check_fields
from tttlrm_jax.config.viewer import ViewerOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewConfig(ViewerOptions):
    """What to show in a browser; Ctrl-C ends it."""

    # file of Gaussians or of points, output directory of eval.py, or a capture
    scene: tyro.conf.Positional[str]
    cameras: PathText | None = None  # capture or camera file, shown with its pictures
    background: RGB | None = None  # RGB in [0, 1]; None: the run's, else black
    exact: bool = False  # begin with pictures that tttlrm-jax draws

    def __post_init__(self):
        check_fields("", self)
