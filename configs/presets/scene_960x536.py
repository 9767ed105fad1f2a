"""The published model on captures of 960x536: so many input views over so many devices of 80 GB.

Command   python train.py configs/presets/scene_960x536.py:views=16,devices=16 \\
              --data.capture-directories DIR [DIR ...]
          on every process, see docs/guides/pods.md
Memory    7.5 to 37 GB a device by views and devices, compiled (docs/experiments/many_devices.md)
Result    none: never trained here, for lack of such devices
"""

from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.pods import scene_run


def config(views: int = 16, devices: int = 16) -> RunConfig:
    """Any numbers from 1 on; a device holds views / devices of a scene, where that is whole."""
    return scene_run(num_views=views, num_devices=devices)
