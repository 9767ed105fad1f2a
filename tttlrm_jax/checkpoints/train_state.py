"""The record that training hands from step to step, as checkpoints hold it."""

from typing import Any

import flax.struct
from jaxtyping import Array, Int


@flax.struct.dataclass
class TrainState:
    """All that one step hands to the next."""

    step: Int[Array, ""]  # batches seen
    params: Any
    opt_state: Any
    num_skipped: Int[Array, ""]  # steps that changed nothing
    ema: Any = None  # averaged parameters, None where the run keeps none

    @property
    def evaluated(self) -> Any:
        """The parameters that evaluation uses: the averaged ones where there are any."""
        return self.params if self.ema is None else self.ema
