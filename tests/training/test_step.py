"""The training step: gradients, accumulation, what changes and what does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aa_jax.metrics.weights import expected_tensors, metadata_of
from aa_jax.models.config import Policy, VAEConfig
from aa_jax.tensor_file import write_tensors
from aa_jax.training.autoencoder import AutoencoderLoss, AutoencoderObjective
from aa_jax.training.config import OptimizerConfig
from aa_jax.training.flops import used_inputs
from aa_jax.training.networks import Networks
from aa_jax.training.objective import DenoisingLoss, Losses, Objective
from aa_jax.training.optimizer import make_optimizer
from aa_jax.training.step import init_state, make_step
from tests.training.test_objective import batch, keys
from tests.training.tiny import model, random_weights


def images(rows, seed=0):
    rng = np.random.default_rng(seed)
    shape = (rows, 16, 16, 3)
    reference, target = (rng.integers(0, 256, shape, np.uint8) for _ in range(2))
    return {"reference": reference, "target": target[:, None], "pose": np.zeros_like(target[:, None])}


@pytest.fixture(scope="module")
def autoencoder():
    """A loss, what trains and what is frozen."""
    config = dataclasses.replace(
        model(False), denoising_unet=None, reference_unet=None, pose_guider=None, image_encoder=None,
        vae=VAEConfig(block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2),
    )  # fmt: skip
    networks = Networks.of(config, Policy())
    params = {key: value.astype(np.float32) for key, value in random_weights(networks).items()}
    frozen = {key: value for key, value in params.items() if ".mid_block." in key}
    trained = {key: value for key, value in params.items() if key not in frozen}
    return AutoencoderLoss(networks=networks, objective=AutoencoderObjective()), trained, frozen


def run(loss, trained, frozen, batches, **options):
    config = OptimizerConfig(**{"learning_rate": 1e-2, "weight_decay": 0.1} | options)
    optimizer = make_optimizer(config, 10)
    state = init_state(trained, frozen, optimizer, config)
    step = jax.jit(make_step(loss, optimizer, config, steps=10, seed=7))
    metrics = []
    for each in batches:
        state, found = step(state, each)
        metrics.append(found)
    return state, metrics


def test_accumulation_is_the_large_batch(autoencoder):
    """Four parts of two samples give the step of eight: losses of every sample, gradient and weights."""
    whole, of_whole = run(*autoencoder, [images(8)])
    parts, of_parts = run(*autoencoder, [images(8)], accumulation=4)
    np.testing.assert_allclose(of_parts[0]["sample_losses"], of_whole[0]["sample_losses"], rtol=1e-5)
    for name in ("loss", "kl", "grad_norm"):
        np.testing.assert_allclose(of_parts[0][name], of_whole[0][name], rtol=1e-4)
    # AdamW's first step is the gradient's sign; where that is near zero it is rounding's.
    moments = (jax.tree.leaves(optax.tree.get(state, "mu")) for state in (whole.optimizer, parts.optimizer))
    for one, other in zip(*moments, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-6)


def test_what_changes(autoencoder):
    """Trained weights do, frozen ones not by a bit; the average is a weighted mean; a loss falls."""
    loss, trained, frozen = autoencoder
    state, metrics = run(*autoencoder, [images(4)] * 6, ema_decay=0.5)
    assert int(state.step) == 6 and metrics[-1]["loss"] < metrics[0]["loss"]
    assert all(bool((state.frozen[key] == value).all()) for key, value in frozen.items())
    assert all(bool((state.trained[key] != value).any()) for key, value in trained.items())
    key = next(iter(trained))
    one, _ = run(*autoencoder, [images(4)], ema_decay=0.5)
    np.testing.assert_allclose(one.ema[key], 0.1 * trained[key] + 0.9 * one.trained[key], rtol=1e-5)
    assert set(state.best) == set(trained) | set(frozen) and state.best[key] is state.ema[key]


def test_steps_are_reproducible_and_differ(autoencoder):
    first, of_first = run(*autoencoder, [images(4)] * 2)
    again, of_again = run(*autoencoder, [images(4)] * 2)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    zero = {"learning_rate": 0.0, "weight_decay": 0.0}
    _, (one, other) = run(*autoencoder, [images(4)] * 2, **zero)
    assert float(one["loss"]) != float(other["loss"])  # latents are drawn anew


def test_a_perceptual_term(autoencoder, tmp_path):
    """It is LPIPS of what the VAE gives back, and its gradient is finite also where features are all zero."""
    rng, expected = np.random.default_rng(0), expected_tensors("lpips-vgg")
    tensors = {
        key: np.abs(each) if key.startswith("lin") else each
        for key, leaf in expected.items()
        for each in [rng.standard_normal(leaf.shape, np.float32) / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))]
    }
    write_tensors(tmp_path / "lpips_vgg.safetensors", tensors, metadata_of("lpips-vgg", tensors, {}))
    loss, trained, frozen = autoencoder
    objective = AutoencoderObjective(perceptual_weight=0.5, perceptual_networks=str(tmp_path))
    with_eye = AutoencoderLoss.of(loss.networks, objective)
    data = images(2) | {"reference": np.zeros((2, 16, 16, 3), np.uint8)}
    keys = jax.random.split(jax.random.key(0), 2)
    params = trained | frozen
    plain, found = jax.jit(lambda: [each(params, data, keys, keys[0]) for each in (loss, with_eye)])()
    np.testing.assert_allclose(found.total, plain.total + 0.5 * found.parts["perceptual"], rtol=1e-5)
    assert (found.parts["perceptual"] > 0).all()
    state, metrics = run(with_eye, trained, frozen, [data] * 3)
    assert all(bool(each["finite"]) for each in metrics)
    assert float(metrics[-1]["perceptual"]) < float(metrics[0]["perceptual"])


def test_regions_count_by_their_weights(autoencoder):
    """Errors left and right of the middle, each alone, are on average the whole; references have no regions."""
    loss, trained, frozen = autoencoder
    keys, params = jax.random.split(jax.random.key(0), 2), trained | frozen
    halves = np.zeros((2, 2, 1, 8, 8), np.float32)
    halves[0, ..., :4], halves[1, ..., 4:] = 1, 3  # the mean does not count
    run = jax.jit(lambda data: loss(params, data, keys, keys[0]).parts["reconstruction"])
    left, right = (run(images(2) | {"weight": half}) for half in halves)
    np.testing.assert_allclose((left + right) / 2, run(images(2)), rtol=1e-5)
    assert (np.abs(left - right) > 0.01 * left).all()


def test_what_is_not_finite_changes_nothing(autoencoder):
    loss, trained, frozen = autoencoder

    def spoilt(params, data, keys, shared_key):
        losses = loss(params, data, keys, shared_key)
        bad = (data["reference"][:, 0, 0, 0] == 255) & (jnp.arange(len(keys)) == 2)
        return Losses(total=jnp.where(bad, jnp.nan, losses.total), parts=losses.parts)

    good, bad = images(4), images(4)
    bad["reference"][2, 0, 0, 0], good["reference"][2, 0, 0, 0] = 255, 0
    after, metrics = run(spoilt, trained, frozen, [good, bad], ema_decay=0.9)
    before, _ = run(spoilt, trained, frozen, [good], ema_decay=0.9)
    assert [bool(each["finite"]) for each in metrics] == [True, False]
    assert list(np.isnan(metrics[1]["sample_losses"])) == [False, False, True, False]
    for name in ("trained", "optimizer", "ema"):
        for one, other in zip(*(jax.tree.leaves(getattr(state, name)) for state in (before, after)), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("clip", [False, True], ids=["stage 1", "stage 2"])
def test_gradients_by_finite_differences(clip):
    """In float64, along random directions through all that a stage trains; with activations computed again the same."""
    with jax.enable_x64(True):
        config = model(clip)
        networks = {remat: Networks.of(config, Policy(dtype=jnp.float64, remat=remat)) for remat in ("none", "layers")}
        params, rng = random_weights(networks["none"]), np.random.default_rng(0)
        chosen = ".motion_modules." if clip else ""
        trained = {
            key: value for key, value in params.items() if chosen in key and not key.startswith(("vae", "image"))
        }
        frozen = {key: value for key, value in params.items() if key not in trained}
        objective = Objective(condition_dropout=0.4, noise_offset=0.1, min_snr_gamma=5.0)
        losses = {
            remat: DenoisingLoss(networks=each, model=config, objective=objective, clip=clip)
            for remat, each in networks.items()
        }

        def value(remat, trained):
            return losses[remat](trained | frozen, batch(), keys(), jax.random.key(0)).total.mean()

        plain = jax.jit(lambda trained: value("none", trained))
        gradient = jax.jit(lambda trained: jax.grad(lambda x: value("none", x))(trained))(trained)
        again = jax.jit(lambda trained: jax.grad(lambda x: value("layers", x))(trained))(trained)
        for key in trained:
            np.testing.assert_allclose(again[key], gradient[key], rtol=1e-6, atol=1e-12)
        for _ in range(3):
            direction = {key: rng.standard_normal(each.shape) for key, each in trained.items()}
            epsilon = 1e-6
            ahead, behind = (
                plain({key: each + sign * epsilon * direction[key] for key, each in trained.items()})
                for sign in (1, -1)
            )
            expected = (ahead - behind) / (2 * epsilon)
            found = sum(np.vdot(gradient[key], direction[key]) for key in trained)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        # What the plan calls unused has no gradient, and the rest has.
        traced = jax.make_jaxpr(lambda trained: value("none", trained))(trained)
        used = dict(zip(sorted(trained), used_inputs(traced), strict=True))
        assert {key for key in trained if np.abs(gradient[key]).max() > 0} == {key for key in trained if used[key]}
