"""A run before its first step: everything that is known without a compiled program, and the errors that are then."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from aa_jax.data.cache import open_cache
from aa_jax.data.clips import ClipSource
from aa_jax.data.encode_frames import made_with
from aa_jax.data.pipeline import LoaderConfig, Samples, long_enough
from aa_jax.data.sample import Sample
from aa_jax.data.source import open_source
from aa_jax.models.config import Policy, require
from aa_jax.sharding import batch_sharding, like_parameters, parameter_sharding, parameter_shardings, replicated
from aa_jax.training.autoencoder import AutoencoderLoss
from aa_jax.training.config import TrainConfig
from aa_jax.training.flops import count_flops, used_inputs
from aa_jax.training.lora import init_lora
from aa_jax.training.networks import Networks
from aa_jax.training.objective import DenoisingLoss
from aa_jax.training.optimizer import make_optimizer
from aa_jax.training.plan import Plan, make_plan
from aa_jax.training.start import (
    Source,
    check_frozen,
    choose_trained,
    describe_sources,
    find_sources,
    load_params,
    matches,
)
from aa_jax.training.state import TrainState
from aa_jax.training.step import Loss, Step, init_state, make_step
from aa_jax.weights import keeps_float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """A run, ready to be compiled. Make it with `set_up`.

    Attributes:
      networks: of the model.
      step: one training step, traced.
      optimizer: its transformation.
      mesh: the devices.
      abstract: the state's shapes, dtypes and shardings.
      batch: those of a batch.
      sources: where weights come from.
      lora: shapes of the kernels that low-rank changes are made to.
      plan: what it will take.
    """

    config: TrainConfig
    networks: Networks
    step: jax.stages.Traced
    optimizer: optax.GradientTransformation
    mesh: Mesh
    abstract: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]
    sources: Mapping[str, Source]
    lora: dict[str, jax.ShapeDtypeStruct]
    plan: Plan

    def initial_state(self) -> TrainState:
        """The state before the first step, on the devices."""
        shardings = parameter_shardings(self.abstract.params, self.mesh)
        trained = set(self.abstract.trained)
        params = load_params(self.config, self.sources, trained, lambda key, value: _put(value, shardings[key]))
        if self.lora:
            changes = init_lora(self.lora, self.config.lora.rank, jax.random.key(self.config.seed))
            params |= {key: _put(value, shardings[key]) for key, value in changes.items()}
        frozen = {key: params[key] for key in self.abstract.frozen}
        make = jax.jit(
            lambda trained: init_state(trained, {}, self.optimizer, self.config.optimizer),
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, dataclasses.replace(self.abstract, frozen={})),
        )
        return dataclasses.replace(make({key: params[key] for key in self.abstract.trained}), frozen=frozen)

    def compile(self) -> Any:
        """The compiled step; it writes the new state where the old one lay."""
        return self.step.lower().compile()

    def put_batch(self, batch: Sample) -> dict[str, jax.Array]:
        """This process's part of a batch, on the devices."""
        sharding = batch_sharding(self.mesh)
        return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def check_batch(config: TrainConfig, mesh: Mesh) -> None:
    """Raise ValueError unless every device has its share of every part of a batch."""
    parts, devices = config.optimizer.accumulation, mesh.size
    require(
        config.batch_size % (devices * parts) == 0,
        f"batch_size {config.batch_size} does not divide by {devices} devices x optimizer.accumulation {parts}: "
        f"choose a multiple of {devices * parts}",
    )


def set_up(config: TrainConfig, mesh: Mesh, batch: Sample) -> Setup:
    """Put a run together.

    Args:
      mesh: the devices, among which a batch divides (`check_batch`).
      batch: one process's part of a batch, of which shapes count.

    Raises:
      FileNotFoundError: a folder of weights is none.
      ValueError: weights that do not fit, or nothing to train.
    """
    compute = config.compute
    policy = Policy(dtype=compute.dtype, attention=compute.attention, remat=compute.remat)
    networks = Networks.of(config.model, policy)
    sources = find_sources(config.model, config.start, networks)
    chosen = choose_trained(config, networks)
    check_frozen(sources, set() if config.lora.rank else chosen, networks, config.start)

    shapes, cut = networks.shapes, batch_sharding(mesh)
    batches = {
        name: jax.ShapeDtypeStruct((config.batch_size, *array.shape[1:]), array.dtype, sharding=cut)
        for name, array in batch.items()
    }
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), config.batch_size))
    traced = jax.make_jaxpr(make_loss(config, networks))(shapes, batches, keys, keys_like(()))
    used = dict(zip(sorted(shapes), used_inputs(traced), strict=False))
    unused = {key for key in chosen if not used[key]}
    trained, lora = chosen - unused, {}
    if config.lora.rank:
        lora = {key: shapes[key] for key in sorted(trained) if matches(key, config.lora.targets)}
        require(bool(lora), f"lora.targets is {config.lora.targets}, which fits nothing that `trains` names")
        changes = jax.eval_shape(lambda: init_lora(lora, config.lora.rank, jax.random.key(0)))
        shapes, trained = shapes | changes, set(changes)
    require(bool(trained), f"trains is {config.trains}, which influences nothing")

    optimizer = make_optimizer(config.optimizer, config.steps, mesh)
    abstract = _abstract_state(config, shapes, trained, optimizer, mesh)
    step = _trace(_step(config, networks, optimizer), abstract, batches, mesh)
    step_flops = count_flops(step.jaxpr)
    model_flops = step_flops if compute.remat == "none" else _model_flops(config, abstract, batches, optimizer)
    plan = make_plan(
        abstract, batches, unused=unused & set(abstract.frozen), origins=describe_sources(sources), mesh=mesh,
        step_flops=step_flops, sample_flops=model_flops / config.batch_size,
    )  # fmt: skip
    return Setup(
        config=config, networks=networks, step=step, optimizer=optimizer, mesh=mesh, abstract=abstract, batch=batches,
        sources=sources, lora=lora, plan=plan,
    )  # fmt: skip


def make_loss(config: TrainConfig, networks: Networks) -> Loss:
    """The stage's loss."""
    if config.autoencoder is not None:
        return AutoencoderLoss.of(networks, config.autoencoder)
    clip = config.data.sample.frames == "clip"
    return DenoisingLoss(networks=networks, model=config.model, objective=config.objective, clip=clip)


def open_clips(config: TrainConfig) -> ClipSource:
    """The clips that samples can be drawn from.

    Raises:
      FileNotFoundError, ValueError: see `aa_jax.data.source.open_source` and `aa_jax.data.cache.open_cache`.
    """
    source, sample = open_source(config.data.source), config.data.sample
    if config.data.cache is not None:
        folders = {config.start.vae or config.start.model, config.start.image_encoder or config.start.model}
        require(
            len(folders) == 1 and None not in folders,
            "data.cache holds what one model's VAE and image encoder made: take both from its folder in start",
        )
        source = open_cache(config.data.cache, source, sample, made_with=made_with(folders.pop() or ""))
    return long_enough(source, sample.num_frames) if sample.frames == "clip" else source


def samples_of(config: TrainConfig, source: ClipSource) -> tuple[Samples, LoaderConfig]:
    """The run's samples, and how batches of them are made."""
    loader = LoaderConfig(batch_size=config.batch_size, seed=config.seed, num_workers=config.data.num_workers)
    return Samples(source, config.data.sample, config.seed), loader


def keys_like(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """An array of random keys, abstract."""
    return jax.ShapeDtypeStruct(shape, jax.random.key(0).dtype)


def _abstract_state(
    config: TrainConfig,
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    trained: set[str],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> TrainState:
    def leaf(key: str) -> jax.ShapeDtypeStruct:
        value = shapes[key]
        dtype = value.dtype
        if jnp.issubdtype(dtype, jnp.floating):
            wide = key in trained or keeps_float32(key, shapes)
            dtype = jnp.dtype(jnp.float32 if wide else config.compute.frozen_dtype)
        return jax.ShapeDtypeStruct(value.shape, dtype, sharding=parameter_sharding(key, value.shape, mesh))

    training = {key: leaf(key) for key in sorted(trained)}
    state = jax.eval_shape(lambda trained: init_state(trained, {}, optimizer, config.optimizer), training)
    shardings = like_parameters(state, training, mesh)
    state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state, shardings
    )
    return dataclasses.replace(state, frozen={key: leaf(key) for key in sorted(shapes) if key not in trained})


def _step(config: TrainConfig, networks: Networks, optimizer: optax.GradientTransformation) -> Step:
    loss = make_loss(config, networks)
    return make_step(loss, optimizer, config.optimizer, steps=config.steps, seed=config.seed)


def _trace(step: Step, state: TrainState, batch: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh) -> jax.stages.Traced:
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated(mesh))).trace(state, batch)


def _model_flops(
    config: TrainConfig,
    state: TrainState,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    optimizer: optax.GradientTransformation,
) -> float:
    """Operations of a step in which nothing is computed again."""
    networks = Networks.of(config.model, Policy(dtype=config.compute.dtype, attention=config.compute.attention))
    return count_flops(jax.make_jaxpr(_step(config, networks, optimizer))(state, batch))


def _put(value: np.ndarray | jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    """A value that every process has, cut as the sharding says."""
    whole = np.asarray(value)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
