"""The denoising objective: what it weighs, draws and drops, against inference and against formulas worked out here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.diffusion.schedule import NoiseSchedule, x0_and_epsilon
from aa_jax.models.clip_vision import clip_pixels
from aa_jax.models.config import Policy
from aa_jax.models.vae import symmetric
from aa_jax.training.networks import Networks
from aa_jax.training.objective import DenoisingLoss, Objective, snr_weights
from tests.training.tiny import model, random_weights

ZERO_SNR = NoiseSchedule(
    beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)  # fmt: skip
HEIGHT, WIDTH, CLIP_SIZE = 32, 24, 28


def batch(rows=2, frames=2, seed=0):
    rng = np.random.default_rng(seed)
    image = lambda *shape: rng.integers(0, 256, (rows, *shape, 3), dtype=np.uint8)  # noqa: E731
    return {
        "reference": image(HEIGHT, WIDTH),
        "whole_reference": image(CLIP_SIZE, CLIP_SIZE),
        "target": image(frames, HEIGHT, WIDTH),
        "pose": image(frames, HEIGHT, WIDTH),
    }


def keys(rows=2):
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.key(5), row))(jnp.arange(rows))


@pytest.fixture(scope="module", params=["images", "clip"])
def stage(request):
    """A loss with weights of which none are zero."""
    clip = request.param == "clip"
    config = dataclasses.replace(model(clip), schedule=ZERO_SNR)
    networks = Networks.of(config, Policy())
    params = {key: value.astype(np.float32) for key, value in random_weights(networks).items()}
    loss = DenoisingLoss(networks=networks, model=config, objective=Objective(condition_dropout=0.0), clip=clip)
    return loss, params


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_a_wrong_image_costs_the_same_in_every_prediction_type(gamma):
    """min(SNR, gamma) times the clean sample's error, whichever quantity is predicted (arXiv 2303.09556)."""
    rng = np.random.default_rng(0)
    clean, noise, error = (rng.standard_normal(1000) for _ in range(3))
    costs = {}
    for kind in ("epsilon", "sample", "v_prediction"):
        schedule = NoiseSchedule(beta_schedule="scaled_linear", prediction_type=kind)
        alphas = schedule.alphas_cumprod.astype(np.float64)
        alpha, sigma = np.sqrt(alphas), np.sqrt(1 - alphas)
        noisy, wrong = alpha * clean + sigma * noise, clean + error
        implied = (noisy - alpha * wrong) / sigma
        truth = {"epsilon": noise, "sample": clean, "v_prediction": alpha * noise - sigma * clean}[kind]
        found = {"epsilon": implied, "sample": wrong, "v_prediction": alpha * implied - sigma * wrong}[kind]
        back, _ = x0_and_epsilon(found, noisy, alpha=alpha, sigma=sigma, prediction_type=kind)
        np.testing.assert_allclose(back, wrong, rtol=1e-6, atol=1e-9)
        costs[kind] = snr_weights(schedule, gamma) * (found - truth) ** 2
    expected = np.minimum(alphas / (1 - alphas), gamma) * error**2
    for kind, cost in costs.items():
        np.testing.assert_allclose(cost, expected, rtol=1e-4, err_msg=kind)


def test_weights_with_zero_terminal_snr_are_not_nearly_one():
    """The published weights, which add one to the SNR before the minimum, are 1 at all three timesteps."""
    weights = snr_weights(ZERO_SNR, 5.0)
    np.testing.assert_allclose(weights[[500, 750, 999]], [0.241, 0.033, 0], atol=5e-4)
    assert (snr_weights(ZERO_SNR, None) == 1).all()


def test_a_sample_draws_from_its_own_key(stage):
    loss, _ = stage
    loss = dataclasses.replace(loss, objective=Objective(noise_offset=0.5))
    drawn = jax.vmap(lambda key: loss._draw(key, (3, 8, 8, 4)))(keys(200))
    times = np.asarray(drawn.timesteps)
    assert times.min() < 30 and times.max() > 970 and len(np.unique(times[:, 0])) > 150
    assert (times == times[:, :1]).all() == loss.clip
    # Of the mean of a channel, the offset makes nearly all the variance.
    means = np.asarray(drawn.noise).mean(axis=(2, 3))
    assert means.var() == pytest.approx(0.25 + 1 / 64, rel=0.15)
    assert (np.abs(np.diff(means, axis=1)).max() < 1.0) == loss.clip
    np.testing.assert_array_equal(drawn.noise[7], loss._draw(keys(200)[7], (3, 8, 8, 4)).noise)


@pytest.mark.parametrize("unit", ["sample", "batch"])
def test_conditions_are_dropped_by_sample_or_by_batch(stage, unit):
    loss, _ = stage
    loss = dataclasses.replace(loss, objective=Objective(condition_dropout=0.2, dropout_unit=unit))
    shared = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(9), row))(jnp.arange(300))
    dropped = np.stack([loss._dropped(jax.random.split(key, 8), key) for key in shared])
    assert dropped.mean() == pytest.approx(0.2, abs=0.06)
    assert (dropped == dropped[:, :1]).all() == (unit == "batch")
    assert dataclasses.replace(loss, objective=Objective(condition_dropout=0.0))._dropped(shared, shared[0]) is None


def test_training_predicts_what_inference_does(stage):
    """The same latents at the same timestep, seen through the objective and through the sampler's programs; a dropped
    sample is the unconditional half of guidance."""
    from aa_jax import preprocess
    from aa_jax.programs import Programs

    loss, params = stage
    config, data = loss.model, batch()
    noisy = jax.random.normal(jax.random.key(3), (2, 2, HEIGHT // 8, WIDTH // 8, 4))
    times = jnp.array([[300, 300], [700, 700]])
    dropped = jnp.array([False, True])
    found = jax.jit(loss._predict)(params, data, noisy, times, dropped)

    programs = Programs(config, dict(loss.networks.graphs))
    weights = {name: loss.networks.state(name, params) for name in loss.networks.graphs}
    unet = jax.jit(lambda params, *args: (net := loss.networks.module("denoising_unet", params))(
        args[0], net.embed_time(args[1]), *args[2:]
    ))  # fmt: skip
    for row, half in ((0, 1), (1, 0)):
        conditions = programs.encode_reference(
            weights,
            preprocess.vae_pixels(data["reference"][row]),
            preprocess.normalise_clip(data["whole_reference"][row])[None],
            guided=True,
        )
        poses = programs.encode_poses(weights, data["pose"][row])
        both = unet(params, noisy[row][None], times[row][:1], conditions, poses[None])
        np.testing.assert_allclose(found[row], both[half], rtol=2e-4, atol=2e-5)


def test_losses_of_samples(stage):
    """Each sample's loss is its own; one that is dropped knows no reference, but the pose; weights move the loss."""
    loss, params = stage
    always = dataclasses.replace(loss, objective=Objective(condition_dropout=1 - 1e-7))

    @jax.jit
    def both(data):
        return [each(params, data, keys(), jax.random.key(0)).total for each in (loss, always)]

    data, other = batch(), batch(seed=1)
    plain, unconditional = both(data)
    assert (np.asarray(plain) > 0).all()
    changed = {name: np.stack([data[name][0], other[name][1]]) for name in data}
    np.testing.assert_allclose(both(changed)[0][0], plain[0], rtol=1e-5)
    assert abs(both(changed)[0][1] - plain[1]) > 1e-4
    references = {name: other[name] for name in ("reference", "whole_reference")}
    with_others = both(data | references)
    np.testing.assert_allclose(with_others[1], unconditional, rtol=1e-6)
    assert np.abs(with_others[0] - plain).min() > 1e-5
    assert np.abs(both(data | {"pose": other["pose"]})[1] - unconditional).min() > 1e-6


def test_region_weights_count_where_they_are(stage):
    """Equal weights of any size change nothing; a weight of one place is the loss of that place."""
    loss, params = stage
    run = jax.jit(lambda data: loss(params, data, keys(), jax.random.key(0)).total)
    data, shape = batch(), (2, 2, HEIGHT // 8, WIDTH // 8)
    plain = run(data)
    np.testing.assert_allclose(run(data | {"weight": np.full(shape, 3, np.float32)}), plain, rtol=1e-5)
    parts = []
    for place in np.ndindex(shape[2:]):
        weight = np.zeros(shape, np.float32)
        weight[(..., *place)] = 1
        parts.append(run(data | {"weight": weight}))
    np.testing.assert_allclose(np.mean(parts, axis=0), plain, rtol=1e-4)


def test_cached_encodings_give_the_same_loss(stage):
    """Moments and embeddings made beforehand stand for the images."""
    loss, params = stage
    data = batch()
    encode = jax.jit(lambda images: loss._moments(params, symmetric(images)))
    embed = jax.jit(lambda images: loss.networks.module("image_encoder", params)(clip_pixels(images)))
    cached = {
        "target_moments": np.stack([encode(frames) for frames in data["target"]]),
        "reference_moments": encode(data["reference"]),
        "reference_embedding": embed(data["whole_reference"]),
        "pose": data["pose"],
    }
    run = jax.jit(lambda data: loss(params, data, keys(), jax.random.key(0)).total)
    np.testing.assert_allclose(run(cached), run(data), rtol=1e-4)
