"""The published model on captures: 32 views of 960x536 over 16 devices of 80 GB (two nodes).

Command   python train.py configs/scene_960x536_32views_16devices.py \\
              --data.capture-directories DIR [DIR ...]
          on every process, see docs/guides/pods.md
Memory    17.7 GB a device, by the compiled program (docs/guides/scaling.md has other policies)
Result    none: never trained here, for lack of such devices
"""

from tttlrm_jax.config.pods import scene_run

CONFIG = scene_run(num_views=32, num_devices=16)
