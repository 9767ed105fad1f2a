"""One training step as a pure function: batch and state in, state and metrics out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config.run import AnyRun
from tttlrm_jax.training.accumulation import accumulated
from tttlrm_jax.training.objectives import batch_loss
from tttlrm_jax.training.objectives.batches import VGG19, Batch, StaticParts
from tttlrm_jax.training.optimizer import (
    guarded_gradients,
    initial_average,
    make_optimizer,
    moved_average,
    norms_by_part,
)


def init_train_state(params: Any, config: AnyRun) -> TrainState:
    """State before the first step."""
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        num_skipped=jnp.zeros((), jnp.int32),
        ema=initial_average(params) if config.train.ema_decay else None,
    )


def train_step(
    state: TrainState,
    batch: Batch,
    static: StaticParts,
    vgg19: VGG19 | None = None,
    loss: Callable[..., Any] | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """Gradient, guard, AdamW, averaged weights. A refused step keeps all three and is counted.

    `loss(params, batch=, key=, vgg19=) -> (loss, metrics)` stands in for `batch_loss`.
    """
    config = static.config
    key_prune = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
    grad_function = jax.grad(loss or functools.partial(batch_loss, static=static), has_aux=True)

    def gradient(part: Batch) -> tuple[Any, dict[str, Array]]:
        return grad_function(state.params, batch=part, key=key_prune, vgg19=vgg19)

    grads, metrics = accumulated(gradient, batch, config.train.micro_batches)
    return updated_state(state, grads, metrics, config)


def updated_state(
    state: TrainState, grads: Any, metrics: dict[str, Array], config: AnyRun
) -> tuple[TrainState, dict[str, Array]]:
    """Guard, optimizer step and averaged weights; a step that is not taken changes none of them.

    `metrics["loss"]` must be finite for it to be taken.
    """
    norms = norms_by_part(grads)
    grads, norm, accept = guarded_gradients(grads, metrics["loss"], state.step, config.optimizer)
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    def if_accepted(new, old):
        return jax.tree.map(lambda n, o: jnp.where(accept, n, o), new, old)

    new_state = state.replace(
        step=state.step + 1,
        params=if_accepted(params, state.params),
        opt_state=if_accepted(opt_state, state.opt_state),
        num_skipped=state.num_skipped + (1 - accept.astype(jnp.int32)),
    )
    if state.ema is not None:
        taken = new_state.step - new_state.num_skipped
        ema = moved_average(state.ema, new_state.params, taken, config.train.ema_decay)
        new_state = new_state.replace(ema=if_accepted(ema, state.ema))
    counted = {"grad_norm": norm, "num_skipped": new_state.num_skipped}
    return new_state, {**metrics, **norms, **counted}
