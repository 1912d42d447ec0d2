"""A training step of a stage: time, share of the device's arithmetic, memory."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aa_jax import preprocess
from aa_jax.config import ModelConfig
from aa_jax.data.sample import Sample, SampleConfig
from aa_jax.models.config import needed
from aa_jax.sharding import make_mesh
from aa_jax.training.config import ComputeConfig, Start, TrainConfig, ValidationConfig, load_train_config
from aa_jax.training.flops import TERA, peak_flops
from aa_jax.training.plan import with_memory
from aa_jax.training.setup import Setup, set_up
from aa_jax.training.state import TrainState
from aa_jax.training.step import init_state
from benchmarks.gpu.job import Job, seconds, spread
from benchmarks.gpu.model import peak_memory
from benchmarks.gpu.scale import Scale, Training
from benchmarks.random_weights import random_weight

CONFIGS = Path(__file__).parents[2] / "configs"


def run(job: Job) -> None:
    """Where the step does not fit, what it would take is recorded all the same."""
    stage, remat = job.scale.training[job.options["stage"]], job.options["remat"]
    devices = len(jax.devices())
    batch_size = job.options["batch_size"] * devices
    config = _config(job.scale, stage, remat, batch_size)
    sample = _batch(config)
    mesh = make_mesh(config.compute.fsdp)

    start = time.perf_counter()
    setup = set_up(config, mesh, sample)
    tracing = time.perf_counter() - start
    start = time.perf_counter()
    step = setup.compile()
    compiling = time.perf_counter() - start
    plan = with_memory(setup.plan, step)
    facts = {
        "stage": stage.config,
        "height": stage.size[0],
        "width": stage.size[1],
        "frames": stage.num_frames,
        "batch_size": batch_size,
        "remat": remat,
        "dtype": config.compute.dtype,
        "devices": devices,
        "tracing_seconds": tracing,
        "compile_seconds": compiling,
        "step_flops": plan.step_flops,
        "sample_flops": plan.sample_flops,
        "planned_memory": plan.memory.parts,
        "planned_bytes": plan.memory.total,
        "device_bytes": plan.device_memory,
    }
    if plan.device_memory is not None and plan.memory.total > plan.device_memory:
        job.record("training", **facts, fits=False)
        return
    state, batch = _initial_state(setup), setup.put_batch(sample)

    def advance() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    try:
        advance()
        taken: list[float] = []
        while len(taken) < 2 * job.scale.repeats and (not taken or job.left > 2 * max(taken)):
            taken.append(seconds(advance))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        job.record("training", **facts, fits=False, error=str(error)[:300])
        return
    median = spread(taken)["median"]
    useful = needed(plan.sample_flops, "count of its work") * batch_size / median
    peak = peak_flops(jax.devices()[0], config.compute.dtype)
    job.record(
        "training",
        **facts,
        fits=True,
        seconds=spread(taken),
        samples_per_second=batch_size / median,
        teraflops_per_second=useful / TERA / devices,
        mfu=None if peak is None else useful / peak / devices,
        peak_bytes=peak_memory(),
    )


def _config(scale: Scale, stage: Training, remat: Any, batch_size: int) -> TrainConfig:
    """The stage's own configuration, but for its size and its weights, which are random."""
    config = load_train_config(CONFIGS / f"{stage.config}.py")
    model = _small_model(scale.model, config) if scale.small else config.model
    sample: SampleConfig = dataclasses.replace(
        config.data.sample,
        height=stage.size[0],
        width=stage.size[1],
        num_frames=stage.num_frames,
        style=preprocess.draw_style(model.inference),
    )
    dtype: Any = scale.dtype
    return dataclasses.replace(
        config,
        model=model,
        start=Start(random=True),
        data=dataclasses.replace(config.data, sample=sample),
        compute=ComputeConfig(dtype=dtype, frozen_dtype=dtype, remat=remat),
        validation=ValidationConfig(),
        batch_size=batch_size,
        steps=100,
    )


def _small_model(model: ModelConfig, config: TrainConfig) -> ModelConfig:
    """With temporal layers where the stage has them."""
    stage, unet = needed(config.model.denoising_unet, "UNet"), needed(model.denoising_unet, "UNet")
    motion = None if stage.motion is None else unet.motion
    return dataclasses.replace(model, denoising_unet=dataclasses.replace(unet, motion=motion))


def _batch(config: TrainConfig) -> Sample:
    """Random images."""
    rng, sample = np.random.default_rng(0), config.data.sample
    images = {"reference": (), "target": (sample.num_frames,), "pose": (sample.num_frames,)}
    batch = {
        name: rng.integers(0, 256, (config.batch_size, *lead, sample.height, sample.width, 3), np.uint8)
        for name, lead in images.items()
    }
    square = (config.batch_size, sample.clip_size, sample.clip_size, 3)
    return batch | {"whole_reference": rng.integers(0, 256, square, np.uint8)}


def _initial_state(setup: Setup) -> TrainState:
    """The state before the first step, faster than `Setup.initial_state` makes it."""

    def put(key: str, leaf: Any) -> jax.Array:
        return jax.device_put(random_weight(key, leaf.shape).astype(leaf.dtype), leaf.sharding)

    abstract = setup.abstract
    trained, frozen = (
        {key: put(key, leaf) for key, leaf in params.items()} for params in (abstract.trained, abstract.frozen)
    )
    make = jax.jit(
        lambda trained: init_state(trained, {}, setup.optimizer, setup.config.optimizer),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, dataclasses.replace(abstract, frozen={})),
    )
    return dataclasses.replace(make(trained), frozen=frozen)
