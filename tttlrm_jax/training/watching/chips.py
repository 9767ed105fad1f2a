"""Published peaks of chips, by what is in the device's name.

Sources: NVIDIA's data sheets of the A100, H100, H200 and GH200 Tensor Core GPUs. They give bfloat16
with sparsity for Hopper; a dense product reaches half of that, which is what stands here. Google's
pages on the TPU versions, by chip: JAX has one device a chip from v4 on.
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """What a chip does at most per second."""

    tflops: float  # 10^12, dense products in bfloat16
    terabytes: float  # read and written, 10^12


CHIPS: tuple[tuple[str, Chip | None], ...] = (  # the first that is in the name counts
    ("MIG", None),  # a part of a chip
    ("A100-SXM4-40GB", Chip(312, 1.555)),
    ("A100-PCIE-40GB", Chip(312, 1.555)),
    ("A100", Chip(312, 2.0)),
    ("H100 PCIe", Chip(756, 2.0)),
    ("H100 NVL", Chip(835, 3.9)),
    ("H100", Chip(989, 3.35)),
    ("GH200", Chip(989, 4.0)),
    ("H200 NVL", Chip(835, 4.8)),
    ("H200", Chip(989, 4.8)),
    ("TPU v4 lite", None),
    ("TPU v4", Chip(275, 1.2)),
    ("TPU v5 lite", Chip(197, 0.819)),
    ("TPU v5e", Chip(197, 0.819)),
    ("TPU v5", Chip(459, 2.765)),
    ("TPU v6", Chip(918, 1.64)),
)


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls `device_kind`; None if it is not in the table."""
    return next((chip for part, chip in CHIPS if part in device_kind), None)
