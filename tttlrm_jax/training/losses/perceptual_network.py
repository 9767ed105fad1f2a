"""The network of a run's perceptual loss: found, named, and the same after an interruption.

A run keeps beside its configuration which network it began with, and a checksum of the file: the
file may be moved, and another network in its place is refused.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from tttlrm_jax.checkpoints.checks import file_sha256
from tttlrm_jax.checkpoints.records import read_record, write_record
from tttlrm_jax.config import LossConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.training.losses.vgg_weights import PUBLISHED, find_vgg, load_vgg
from tttlrm_jax.training.objectives.batches import VGG19

NETWORK_FILE = "perceptual.json"  # in a run's directory


class Network(NamedTuple):
    """Which network a run looks through; of a run that goes on without one, `NOTHING`."""

    name: str  # in words
    sha256: str | None  # of its file


NOTHING = Network("no network, without its perceptual term", None)


def with_network(config: RunConfig) -> tuple[RunConfig, VGG19 | None, Network | None, list[str]]:
    """The run with the weights of its perceptual loss, or without the term and with a warning; a
    network other than the published loss's is named.

    The network is None where the run asks for no such term. Raises InputError where weights are
    missing and the run is not told to go on.
    """
    loss = config.loss
    given = loss.vgg19_weights
    if not loss.perceptual:
        return config, None, None, []
    path = None if given is None else find_vgg(given)
    if path is None and loss.missing_vgg19 == "go_on":
        config = dataclasses.replace(
            config, loss=dataclasses.replace(loss, perceptual=0.0, vgg19_weights=None)
        )
        said = f"WARNING: no weights of VGG-19 at loss.vgg19_weights={given}; "
        return config, None, NOTHING, [said + f"training without loss.perceptual={loss.perceptual}"]
    assert given is not None  # as the configuration was checked
    weights, name = load_vgg(given)
    said = f"the perceptual loss looks through {name}, the published one through {PUBLISHED}"
    network = Network(name, _fingerprint(given))
    return config, weights, network, [] if name == PUBLISHED else [said]


def record_network(directory: Path, network: Network | None) -> None:
    """Writes the network of a run beside its configuration, if it has one or should have.

    Raises InputError where it cannot be written.
    """
    if network is not None:
        write_record(directory / NETWORK_FILE, network._asdict())


def recorded_network(directory: Path) -> Network | None:
    """The network that the run in `directory` was started with; None if none was kept.

    Raises InputError for a file that cannot be read.
    """
    return read_record(
        directory / NETWORK_FILE, lambda found: Network(**found),
        "the network of the perceptual loss is the run's own",
    )  # fmt: skip


def check_same_network(directory: Path, loss: LossConfig, network: Network | None) -> None:
    """Raises ConfigError where `network` is not what the run in `directory` was started with."""
    recorded = recorded_network(directory)
    if recorded is None or network is None or recorded.sha256 == network.sha256:
        return
    remedy = "None, to go on without" if recorded.sha256 is None else "the file of that network"
    raise ConfigError.of(
        "loss.vgg19_weights", loss.vgg19_weights,
        f"gives {network.name}, and the run in {directory} was started with {recorded.name}",
        f"name {remedy}, or choose another name or train.directory",
    )  # fmt: skip


def is_same_network(directory: Path, loss: LossConfig) -> bool:
    """Whether `loss.vgg19_weights` gives what the run in `directory` was started with.

    False where the run kept no record.
    """
    recorded, given = recorded_network(directory), loss.vgg19_weights
    found = None if given is None else _fingerprint(given)
    return recorded is not None and found == recorded.sha256


def _fingerprint(given: str) -> str | None:
    path = find_vgg(given)
    return None if path is None else file_sha256(path)
