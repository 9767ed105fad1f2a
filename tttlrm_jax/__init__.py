"""Feed-forward and streaming 3D reconstruction with test-time training, in JAX.

    import tttlrm_jax as tj

    model = tj.load()                                      # shipped weights, a run, a model
    scene = model.reconstruct(tj.open_capture(), views=4)  # the sample, or your own capture
    scene.save("scene.ply")
    print(scene.scores())

Names are imported when they are asked for: `import tttlrm_jax` alone loads nothing.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttlrm_jax.api.captures import open_capture
    from tttlrm_jax.api.fitting import fit
    from tttlrm_jax.api.models import SceneModel, load, load_state
    from tttlrm_jax.api.reconstruction import Reconstruction
    from tttlrm_jax.api.scenes import Scores
    from tttlrm_jax.api.sequences import FrameResult, FrameStream, SequenceModel
    from tttlrm_jax.api.streams import SceneStream, ViewStream
    from tttlrm_jax.api.view_synthesis import SynthesisedScene, ViewSynthesisModel
    from tttlrm_jax.captures.capture import Capture
    from tttlrm_jax.core.errors import ConfigError, InputError
    from tttlrm_jax.core.types import Cameras, Gaussians, Splats, Views
    from tttlrm_jax.per_scene.anytime import Improved, Moment
    from tttlrm_jax.rasterize import Renderer, Rendering, render, render_views
    from tttlrm_jax.sequences.sequence import Sequence

    __version__: str

_HOMES = {
    "api.captures": ("open_capture",),
    "api.fitting": ("fit",),
    "api.models": ("SceneModel", "load", "load_state"),
    "api.reconstruction": ("Reconstruction",),
    "api.scenes": ("Scores",),
    "api.sequences": ("FrameResult", "FrameStream", "SequenceModel"),
    "api.streams": ("SceneStream", "ViewStream"),
    "api.view_synthesis": ("SynthesisedScene", "ViewSynthesisModel"),
    "captures.capture": ("Capture",),
    "core.errors": ("ConfigError", "InputError"),
    "core.types": ("Cameras", "Gaussians", "Splats", "Views"),
    "per_scene.anytime": ("Improved", "Moment"),
    "rasterize": ("Renderer", "Rendering", "render", "render_views"),
    "sequences.sequence": ("Sequence",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "Cameras", "Capture", "ConfigError", "FrameResult", "FrameStream", "Gaussians", "Improved",
    "InputError", "Moment", "Reconstruction", "Renderer", "Rendering", "SceneModel", "SceneStream",
    "Scores", "Sequence", "SequenceModel", "Splats", "SynthesisedScene", "ViewStream",
    "ViewSynthesisModel", "Views", "fit", "load", "load_state", "open_capture", "render",
    "render_views",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names when they are asked for: commands listen for signals before JAX is imported."""
    if name == "__version__":
        value = _version()
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    globals()[name] = value
    return value


class _Package(types.ModuleType):
    """`python -m tttlrm_jax.render` is a module beside the function `render`: once it is imported,
    Python would put it into the function's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _version() -> str:
    """As installed; a checkout that is not installed has none."""
    from importlib import metadata

    try:
        return metadata.version("tttlrm-jax")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
