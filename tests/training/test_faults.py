"""Faults of published training code that ours must not have. Where the test of one is elsewhere, the table says where.

Moore-AnimateAnyone
  min-SNR weights nearly one                     test_objective: weights_with_zero_terminal_snr_are_not_nearly_one
  conditions dropped for whole batches           test_objective: conditions_are_dropped_by_sample_or_by_batch
  references leak from part to part of a batch   here: parts_of_a_batch_do_not_see_each_other
  resume forgets step, random state, data order  test_loop: sigterm, kill, kill_on_four_devices
  width and height exchanged in the crop         here: frames_of_the_asked_size_are_left_alone
  recomputed activations break the gradients     test_step: gradients_by_finite_differences
  half precision breaks the update               here: small_updates_survive_half_precision
  drawn poses stored as lossy video              tests/datasets/test_sample: poses_are_those_of_the_targets_...
  betas of the configuration overruled           here: one_noise_schedule_from_stage_1_to_inference
Open-AnimateAnyone
  each stage and inference on betas of its own   here: one_noise_schedule_from_stage_1_to_inference
  features spoilt from their second use on       here: references_serve_again_and_again
  the reference is never dropped                 test_objective: training_predicts_what_inference_does
  accumulation configured, never done            test_step: accumulation_is_the_large_batch
MusePose
  nothing saved before the end                   test_loop: a_run
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aa_jax.config import ModelConfig
from aa_jax.data.sample import SampleConfig, make_sample
from aa_jax.models.config import Policy
from aa_jax.training.config import OptimizerConfig, load_train_config
from aa_jax.training.networks import Networks
from aa_jax.training.objective import DenoisingLoss, Losses, Objective
from aa_jax.training.optimizer import make_optimizer
from aa_jax.training.step import init_state, make_step
from tests.datasets.made_up import MadeUpClip
from tests.training.test_objective import ZERO_SNR, batch
from tests.training.tiny import model, random_weights

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def stage_1():
    config = dataclasses.replace(model(False), schedule=ZERO_SNR)
    networks = Networks.of(config, Policy())
    params = {key: value.astype(np.float32) for key, value in random_weights(networks).items()}
    return DenoisingLoss(networks=networks, model=config, objective=Objective(), clip=False), params


def test_parts_of_a_batch_do_not_see_each_other(stage_1):
    """Another reference in the first part changes the losses of that part alone, and the parts' gradient is the
    batch's."""
    loss, params = stage_1
    data = batch(rows=4, frames=1)
    changed = data | {"reference": data["reference"].copy()}
    changed["reference"][:2] = 255 - changed["reference"][:2]
    chosen = {key for key in params if key.startswith("reference_unet.down_blocks.0.attentions")}
    trained = {key: value for key, value in params.items() if key in chosen}
    frozen = {key: value for key, value in params.items() if key not in chosen}

    def run(data, accumulation):
        config = OptimizerConfig(accumulation=accumulation, clip_norm=None)
        optimizer = make_optimizer(config, 1)
        step = jax.jit(make_step(loss, optimizer, config, steps=1, seed=0))
        state, metrics = step(init_state(trained, frozen, optimizer, config), data)
        return metrics["sample_losses"], optax.tree.get(state.optimizer, "mu")

    whole, of_whole = run(data, 1)
    parts, of_parts = run(data, 2)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    for key in trained:
        np.testing.assert_allclose(of_parts[key], of_whole[key], rtol=1e-3, atol=1e-6)
    others, _ = run(changed, 2)
    np.testing.assert_array_equal(others[2:], parts[2:])
    assert (others[:2] != parts[:2]).all()


def test_references_serve_again_and_again(stage_1):
    """Features made once give every target the prediction that features of its own would."""
    loss, params = stage_1
    networks, data = loss.networks, batch(rows=2, frames=1)
    noisy = jax.random.normal(jax.random.key(0), (2, 1, 4, 3, 4))
    times = jnp.array([10, 900])

    @jax.jit
    def predict(params, reference, targets):
        """(uses, 2 samples): of one set of features."""
        unet = networks.module("denoising_unet", params)
        embedding = loss._embeddings(params, reference)[0]
        bank = networks.module("reference_unet", params)(loss._reference(params, reference), embedding)
        conditions = unet.condition(embedding, bank)
        pose = loss._pose(params, reference)
        return jnp.stack([unet(each, unet.embed_time(times), conditions, pose) for each in targets])

    other = jax.random.normal(jax.random.key(1), noisy.shape)
    together = predict(params, data, [noisy, other, noisy])
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_allclose(predict(params, data, [other, noisy, other])[0], together[1], rtol=1e-5, atol=1e-6)
    exchanged = predict(params, {name: value[::-1] for name, value in data.items()}, [noisy, other, noisy])
    assert (np.abs(exchanged[0] - together[0]).max(axis=(1, 2, 3, 4)) > 1e-3).all()


@pytest.mark.parametrize(("height", "width"), [(12, 8), (8, 12)])
def test_frames_of_the_asked_size_are_left_alone(height, width):
    clip = MadeUpClip(3, 10, height, width)
    sample = make_sample(clip, SampleConfig(height=height, width=width), np.random.default_rng(0))
    for name in ("reference", "target"):
        frame = sample[name].reshape(height, width, 3)
        np.testing.assert_array_equal(frame, clip.frames([frame[0, 0, 1]])[0])


def test_small_updates_survive_half_precision():
    """Products in bfloat16, weights in float32: a thousandth of bfloat16's resolution is not lost, and gradients need
    no scaling."""

    def loss(params, data, keys, shared_key):
        found = (params["kernel"].astype(jnp.bfloat16) * data["pose"].astype(jnp.bfloat16)).astype(jnp.float32)
        return Losses(total=found.sum(axis=1), parts={})

    config = OptimizerConfig(learning_rate=1e-5, weight_decay=0.0)
    optimizer = make_optimizer(config, 10)
    state = init_state({"kernel": jnp.ones(3)}, {}, optimizer, config)
    step = jax.jit(make_step(loss, optimizer, config, steps=10, seed=0))
    for _ in range(10):
        state, metrics = step(state, {"pose": np.full((2, 3), 1e-6, np.float32)})
        assert bool(metrics["finite"])
    assert state.trained["kernel"].dtype == jnp.float32
    # AdamW's steps are of the learning rate's size, however small gradients are; its epsilon takes a hundredth.
    np.testing.assert_allclose(state.trained["kernel"], 1 - 10 * 1e-5, atol=2e-6)


@pytest.mark.parametrize("recipe", ["", "moore_", "characters_", "characters_cpu_"])
def test_one_noise_schedule_from_stage_1_to_inference(recipe):
    """Both stages have it, and what they export says it."""
    first, second = (load_train_config(CONFIGS / f"{recipe}stage{stage}.py") for stage in (1, 2))
    assert first.model.schedule == second.model.schedule
    exported = ModelConfig.from_dict(json.loads(json.dumps(second.model.to_dict())))
    assert exported.schedule == second.model.schedule
