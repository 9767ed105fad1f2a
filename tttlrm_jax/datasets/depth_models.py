"""Monocular depth models of Hugging Face as functions of a picture (extra `depth`)."""

import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import Image

from tttlrm_jax.core.errors import InputError, first_line

Predictor = Callable[[np.ndarray], np.ndarray]
"""Disparity [height, width], larger is nearer, of uint8 RGB [height, width, 3], at any size."""

Prediction = Literal["auto", "disparity", "depth"]
DEPTH_MODELS = ("zoedepth", "glpn", "depth_pro", "prompt_depth_anything")  # the rest: disparity
MIN_DEPTH = 1e-3


def load_predictor(
    model: str, prediction: Prediction = "auto", device: str = "cpu", download: bool = False
) -> Predictor:
    """A depth-estimation model by its directory or its name on the hub, from the local cache.

    Only with `download` is the network asked. `auto` takes what the model's configuration says of
    its output. Raises InputError if the extra is not installed or the model cannot be loaded.
    """
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
    try:
        import transformers  # pyright: ignore[reportMissingImports]

        pipeline = transformers.pipeline("depth-estimation", model=model, device=device)
    except ImportError as error:
        raise InputError(
            f"model={model} needs the extra `depth` ({first_line(error)}); "
            "pip install tttlrm-jax[depth]"
        ) from None
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            f"model={model} cannot be loaded ({first_line(error)}); name a directory or a model "
            "in the local cache, or allow --download"
        ) from None
    inverted = (
        _predicts_depth(pipeline.model.config) if prediction == "auto" else prediction == "depth"
    )

    def predict(image: np.ndarray) -> np.ndarray:
        output = pipeline(Image.fromarray(image))["predicted_depth"]
        values = np.squeeze(np.asarray(output, np.float32))
        return 1.0 / np.maximum(values, MIN_DEPTH) if inverted else values

    return predict


def _predicts_depth(config: Any) -> bool:
    """Whether a model's output grows with distance."""
    metric = getattr(config, "depth_estimation_type", "relative") == "metric"
    return metric or getattr(config, "model_type", "") in DEPTH_MODELS
