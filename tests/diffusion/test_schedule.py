"""NoiseSchedule against diffusers' schedulers and the golden data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.diffusion import NoiseSchedule, x0_and_epsilon

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("leading", "trailing", "linspace")
MOORE = NoiseSchedule(
    prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=1
)

# Rescaling to zero terminal SNR subtracts square roots close to one in float32, and PyTorch's square root is off by one
# unit in the last place in a fifth of the cases (NumPy's in none). alphas_cumprod differ by this much for it, of at
# most 1.
ZERO_SNR_TOLERANCE = 1.5e-6


def load(golden, name):
    path = golden / "tiny" / name
    if not path.is_file():
        pytest.skip(f"{name} is not there")
    return np.load(path)


def test_golden_tables(golden):
    data = load(golden, "ddim.npz")
    plain = NoiseSchedule()
    np.testing.assert_allclose(plain.betas, data["betas_linear"], rtol=1e-7)
    np.testing.assert_allclose(plain.alphas_cumprod, data["alphas_cumprod_before"], rtol=1e-7)
    np.testing.assert_allclose(plain.alphas_cumprod, data["v1_yaml|alphas_cumprod"], rtol=1e-7)
    np.testing.assert_allclose(MOORE.betas, data["betas_rescaled"], atol=5e-6)
    np.testing.assert_allclose(MOORE.alphas_cumprod, data["alphas_cumprod"], atol=ZERO_SNR_TOLERANCE / 4)
    assert MOORE.alphas_cumprod[-1] == 0
    assert MOORE.set_alpha_to_one and data["final_alpha_cumprod"] == 1


def test_golden_timesteps(golden):
    data = load(golden, "ddim.npz")
    for steps in (4, 10, 20, 25, 30, 50):
        np.testing.assert_array_equal(MOORE.timesteps(steps), data[f"timesteps|{steps}"])
    np.testing.assert_array_equal(NoiseSchedule(steps_offset=1).timesteps(20), data["v1_yaml|timesteps|20"])


def test_golden_add_noise_and_velocity(golden):
    data = load(golden, "ddim.npz")
    sample, noise = jnp.asarray(data["sample"]), jnp.asarray(data["noise"])
    for index, t in enumerate(data["add_noise_t"]):
        t = jnp.asarray([t])
        np.testing.assert_allclose(MOORE.add_noise(sample, noise, t), data["add_noise"][index], atol=6e-6)
        np.testing.assert_allclose(MOORE.velocity(sample, noise, t), data["velocity"][index], atol=6e-6)


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("betas", [(0.00085, 0.012), (0.0001, 0.02)])
def test_tables_equal_diffusers(beta_schedule, zero_snr, betas):
    diffusers = pytest.importorskip("diffusers")
    for total in (1000, 1100, 50):
        options = {
            "num_train_timesteps": total,
            "beta_start": betas[0],
            "beta_end": betas[1],
            "beta_schedule": beta_schedule,
            "rescale_betas_zero_snr": zero_snr,
        }
        ours = NoiseSchedule(**options)
        theirs = diffusers.DDIMScheduler(**options)
        for name in ("betas", "alphas_cumprod"):
            values = getattr(ours, name)
            assert values.dtype == np.float32 and values.shape == (total,)
            atol = 0 if not zero_snr else 1e-5 if name == "betas" else ZERO_SNR_TOLERANCE
            np.testing.assert_allclose(values, getattr(theirs, name).numpy(), rtol=3e-7, atol=atol)
        levels = diffusers.EulerDiscreteScheduler(**options).sigmas.numpy()[-2::-1]
        if zero_snr:
            np.testing.assert_allclose(ours.noise_levels[-1], levels[-1], rtol=3e-7)
            np.testing.assert_allclose(1 / (1 + ours.noise_levels**2), 1 / (1 + levels**2), atol=ZERO_SNR_TOLERANCE)
        else:
            np.testing.assert_allclose(ours.noise_levels, levels, rtol=3e-7)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("offset", [0, 1])
def test_timesteps_equal_diffusers(spacing, offset):
    diffusers = pytest.importorskip("diffusers")
    options = {"timestep_spacing": spacing, "steps_offset": offset}
    ours, theirs = NoiseSchedule(**options), diffusers.DDIMScheduler(**options)
    for steps in (1, 2, 3, 4, 7, 10, 15, 20, 25, 30, 48, 50, 99, 100, 333, 999):
        theirs.set_timesteps(steps)
        timesteps = ours.timesteps(steps)
        assert timesteps.dtype == np.int64
        np.testing.assert_array_equal(timesteps, theirs.timesteps.numpy())


def test_published_timesteps():
    """The figures of diffusers' own test of steps_offset."""
    np.testing.assert_array_equal(NoiseSchedule(steps_offset=1).timesteps(5), [801, 601, 401, 201, 1])


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_number_of_steps_gives_falling_timesteps(spacing):
    """diffusers gives one timestep too many, -1, for 64 numbers of "trailing" steps, e.g. 61."""
    schedule = NoiseSchedule(timestep_spacing=spacing)
    for steps in range(1, 1001):
        timesteps = schedule.timesteps(steps)
        assert timesteps.shape == (steps,) and timesteps[0] <= 999 and timesteps[-1] >= 0
        assert np.all(np.diff(timesteps) < 0)


@pytest.mark.parametrize("zero_snr", [False, True])
def test_add_noise_and_velocity_equal_diffusers(zero_snr):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    ours = NoiseSchedule(rescale_betas_zero_snr=zero_snr)
    theirs = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=zero_snr)
    rng = np.random.default_rng(0)
    sample, noise = rng.standard_normal((2, 5, 3, 4, 4), dtype=np.float32)
    t = np.array([0, 1, 500, 998, 999])
    arguments = [torch.from_numpy(x) for x in (sample, noise, t)]
    add_noise, velocity = jax.jit(ours.add_noise), jax.jit(ours.velocity)
    atol = 6e-6 if zero_snr else 3e-7
    np.testing.assert_allclose(add_noise(sample, noise, t), theirs.add_noise(*arguments), atol=atol)
    np.testing.assert_allclose(velocity(sample, noise, t), theirs.get_velocity(*arguments), atol=atol)


def test_a_timestep_beyond_the_schedule_is_nan():
    one = jnp.ones((1, 2))
    assert jnp.isnan(NoiseSchedule().add_noise(one, one, jnp.array([1000]))).all()


@pytest.mark.parametrize("t", [0, 300, 998])
def test_predictions_convert_back(t):
    schedule = NoiseSchedule(rescale_betas_zero_snr=True)
    x0, epsilon = (jax.random.normal(jax.random.key(seed), (2, 3, 4)) for seed in (0, 1))
    t = jnp.array(t)
    alpha, sigma = np.sqrt(schedule.alphas_cumprod[t]), np.sqrt(1 - schedule.alphas_cumprod[t])
    noisy, velocity = schedule.add_noise(x0, epsilon, t), schedule.velocity(x0, epsilon, t)
    for prediction_type, prediction in (("epsilon", epsilon), ("v_prediction", velocity), ("sample", x0)):
        converted = x0_and_epsilon(prediction, noisy, alpha=alpha, sigma=sigma, prediction_type=prediction_type)
        # A division by a small coefficient magnifies the rounding of the noisy sample.
        tolerance = 1e-6 / min(alpha, sigma)
        np.testing.assert_allclose(converted[0], x0, atol=tolerance)
        np.testing.assert_allclose(converted[1], epsilon, atol=tolerance)


def test_alpha_falls_for_all_options():
    for beta_schedule, zero_snr in itertools.product(BETA_SCHEDULES, (False, True)):
        schedule = NoiseSchedule(beta_schedule=beta_schedule, rescale_betas_zero_snr=zero_snr)
        assert np.all(np.diff(schedule.alphas_cumprod) < 0)
        assert np.all(np.diff(schedule.noise_levels) > 0) and np.isfinite(schedule.noise_levels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta_schedule": "cosine"}, "'cosine', expected one of linear, scaled_linear, squaredcos_cap_v2"),
        ({"prediction_type": "v"}, "'v', expected one of epsilon, v_prediction, sample"),
        ({"timestep_spacing": "even"}, "'even', expected one of leading, trailing, linspace"),
        ({"num_train_timesteps": 1}, "is 1, expected 2 or more"),
        ({"beta_start": 0.5}, "from 0.5 to 0.012, expected 0 < beta_start <= beta_end < 1"),
        ({"steps_offset": -1}, "is -1, expected 0 or more"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**options)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_wrong_number_of_steps(steps):
    with pytest.raises(ValueError, match=f"num_inference_steps is {steps}, expected 1 to 1000"):
        NoiseSchedule().timesteps(steps)


def test_offset_beyond_the_schedule():
    with pytest.raises(ValueError, match="start at timestep 1000, but the last one is 999"):
        NoiseSchedule(steps_offset=1).timesteps(1000)


def test_is_hashable():
    assert hash(MOORE) == hash(NoiseSchedule(**vars(MOORE)))
