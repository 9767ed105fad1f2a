"""Where the live viewer listens."""

import dataclasses
from typing import Annotated

from tttlrm_jax.config.validation import between

LOOPBACK = "127.0.0.1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewerOptions:
    """Fields of commands that can show what they do in a browser."""

    host: str = LOOPBACK  # address that the viewer listens at; 0.0.0.0: open to the whole network
    port: Annotated[int, between(0, 65535)] = 8080  # 0: any that is free
