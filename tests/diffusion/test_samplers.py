"""Samplers against diffusers' schedulers, the figures that diffusers' own tests publish, and the golden data."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.diffusion import DDIM, SAMPLERS, DPMSolverMultistep, Euler, NoiseSchedule, get_sampler
from aa_jax.diffusion.samplers import Tables

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SHAPE = (2, 3, 4)
# diffusers hands a tensor to np.array, which NumPy 2 does not like.
ignore_numpy_warning = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def rows(tables):
    """The rows of tables, one by one."""
    return [jax.tree.map(lambda column, index=index: column[index], tables) for index in range(len(tables.timesteps))]


def run(sampler, schedule, noise, predictions, fresh_noise=None):
    """Latents after each step, of predictions that are given beforehand; in NumPy, which a step works with as well."""
    tables = sampler.tables(schedule, len(predictions))
    state = jax.tree.map(np.asarray, sampler.initialize(noise, tables))
    latents = []
    for index, row in enumerate(rows(tables)):
        state = sampler.step(state, predictions[index], row, None if fresh_noise is None else fresh_noise[index])
        latents.append(state.latents)
    return np.stack(latents)


def run_diffusers(scheduler, schedule, noise, predictions, fresh_noise=None, **step_options):
    """As `run`, by a scheduler of diffusers."""
    torch = pytest.importorskip("torch")
    if schedule.rescale_betas_zero_snr:
        # The tables differ in the last bits (see test_schedule): here the steps are compared.
        terminal = scheduler.alphas_cumprod[-1].item()
        scheduler.alphas_cumprod = torch.from_numpy(schedule.alphas_cumprod)
        scheduler.alphas_cumprod[-1] = terminal
        if not getattr(scheduler.config, "set_alpha_to_one", True):
            scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(len(predictions))
    sample = torch.from_numpy(noise) * scheduler.init_noise_sigma
    latents = []
    for index, (t, prediction) in enumerate(zip(scheduler.timesteps, predictions, strict=True)):
        scheduler.scale_model_input(sample, t)
        if fresh_noise is not None:
            step_options["variance_noise"] = torch.from_numpy(fresh_noise[index])
        sample = scheduler.step(torch.from_numpy(prediction), t, sample, **step_options).prev_sample
        latents.append(sample.numpy())
    return np.stack(latents)


def options_of(schedule, *, without=()):
    return {name: value for name, value in vars(schedule).items() if name not in without}


def relative_error(ours, theirs):
    """Largest difference after each step over the largest value, worst step."""
    axes = tuple(range(1, ours.ndim))
    return (np.abs(ours - theirs).max(axes) / np.abs(theirs).max(axes)).max()


def random_run(steps, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(SHAPE, dtype=np.float32), rng.standard_normal((steps, *SHAPE), dtype=np.float32)


def schedules():
    for prediction_type, spacing, beta_schedule, zero_snr in itertools.product(
        PREDICTION_TYPES, SPACINGS, BETA_SCHEDULES, (False, True)
    ):
        yield NoiseSchedule(
            prediction_type=prediction_type,
            timestep_spacing=spacing,
            beta_schedule=beta_schedule,
            rescale_betas_zero_snr=zero_snr,
            steps_offset=1 if spacing == "leading" else 0,
        )


@pytest.mark.parametrize("steps", [1, 7, 10, 30])
def test_ddim_equals_diffusers(steps):
    diffusers = pytest.importorskip("diffusers")
    noise, predictions = random_run(steps)
    for schedule, one in itertools.product(schedules(), (True, False)):
        schedule = dataclasses.replace(schedule, set_alpha_to_one=one)
        if schedule.prediction_type == "epsilon" and schedule.alphas_cumprod[schedule.timesteps(steps)[0]] == 0:
            with pytest.raises(ValueError, match="zero SNR"):
                DDIM().tables(schedule, steps)
            continue
        ours = run(DDIM(), schedule, noise, predictions)
        theirs = run_diffusers(
            diffusers.DDIMScheduler(**options_of(schedule), clip_sample=False), schedule, noise, predictions
        )
        assert relative_error(ours, theirs) < 1e-5, schedule


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_noise_equals_diffusers(eta):
    diffusers = pytest.importorskip("diffusers")
    noise, predictions = random_run(10)
    _, fresh_noise = random_run(10, seed=1)
    for schedule in schedules():
        if schedule.prediction_type == "epsilon" and schedule.rescale_betas_zero_snr:
            continue
        scheduler = diffusers.DDIMScheduler(**options_of(schedule), clip_sample=False)
        ours = run(DDIM(eta=eta), schedule, noise, predictions, fresh_noise)
        theirs = run_diffusers(scheduler, schedule, noise, predictions, fresh_noise, eta=eta)
        # With eta = 1 the step from (nearly) zero SNR takes (nearly) nothing of the predicted noise: the square root of
        # 1 - alphas_cumprod - variance, which is 0 up to rounding errors of 2**-24 in diffusers.
        tolerance = 2**-12 if eta == 1 and schedule.alphas_cumprod[-1] < 1e-6 else 1e-5
        assert relative_error(ours, theirs) < tolerance, schedule


@ignore_numpy_warning
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 30])
def test_dpm_solver_equals_diffusers(steps):
    diffusers = pytest.importorskip("diffusers")
    noise, predictions = random_run(steps)
    for schedule in schedules():
        scheduler = diffusers.DPMSolverMultistepScheduler(**options_of(schedule, without=["set_alpha_to_one"]))
        ours = run(DPMSolverMultistep(), schedule, noise, predictions)
        theirs = run_diffusers(scheduler, schedule, noise, predictions)
        np.testing.assert_array_equal(
            DPMSolverMultistep().tables(schedule, steps).timesteps, scheduler.timesteps.numpy()
        )
        assert relative_error(ours, theirs) < 1e-5, schedule


@ignore_numpy_warning
@pytest.mark.parametrize("steps", [1, 7, 10, 30])
def test_euler_equals_diffusers(steps):
    diffusers = pytest.importorskip("diffusers")
    noise, predictions = random_run(steps)
    for schedule in schedules():
        scheduler = diffusers.EulerDiscreteScheduler(**options_of(schedule, without=["set_alpha_to_one"]))
        ours = run(Euler(), schedule, noise, predictions)
        theirs = run_diffusers(scheduler, schedule, noise, predictions)
        tables = Euler().tables(schedule, steps)
        np.testing.assert_array_equal(tables.timesteps, scheduler.timesteps.numpy())
        np.testing.assert_allclose(tables.init_noise_sigma, float(scheduler.init_noise_sigma), rtol=3e-7)
        # diffusers takes the difference of two numbers as large as the first noise level (4096 at zero SNR) in float32.
        assert relative_error(ours, theirs) < max(1e-5, 2**-23 * tables.init_noise_sigma), schedule


@pytest.mark.parametrize("steps", [1, 7, 30])
def test_euler_equals_the_formula_in_float64(steps):
    """x + (next_level - level) * dx / d(level), which float64 needs no care for."""
    noise, predictions = random_run(steps)
    for schedule in schedules():
        timesteps = Euler().tables(schedule, steps).timesteps
        levels = np.interp(timesteps, np.arange(1000), schedule.noise_levels.astype(np.float64))
        ours = run(Euler(), schedule, noise, predictions)
        x = noise * (np.sqrt(levels[0] ** 2 + 1) if schedule.timestep_spacing == "leading" else levels[0])
        for index, (level, next_level) in enumerate(zip(levels, np.append(levels[1:], 0), strict=True)):
            prediction = predictions[index].astype(np.float64)
            x0 = {
                "epsilon": x - level * prediction,
                "v_prediction": x / (level**2 + 1) - level / np.sqrt(level**2 + 1) * prediction,
                "sample": prediction,
            }[schedule.prediction_type]
            x = x + (next_level - level) * (x - x0) / level
            # A predicted epsilon is taken from the sample to find x0, whatever the order of sums: there the rounding
            # stays.
            tolerance = max(1e-5, 2**-23 * levels[0]) if schedule.prediction_type == "epsilon" else 1e-5
            assert np.abs(ours[index] - x).max() < tolerance * np.abs(x).max(), schedule


def test_euler_is_ddim_in_other_coordinates():
    noise, predictions = random_run(10)
    for prediction_type in PREDICTION_TYPES:
        schedule = NoiseSchedule(prediction_type=prediction_type, beta_schedule="scaled_linear", steps_offset=1)
        euler, ddim = run(Euler(), schedule, noise, predictions), run(DDIM(), schedule, noise, predictions)
        alpha = np.append(Euler().tables(schedule, 10).alpha[1:], 1).reshape(-1, 1, 1, 1)
        assert relative_error(euler * alpha, ddim) < 1e-5


# The fixed model, sample and noise of diffusers' own scheduler tests (tests/schedulers/test_schedulers.py), and what
# they give in ten steps. All of them use 1000 linear betas from 0.0001 to 0.02, or say so.
PUBLISHED = {"beta_start": 0.0001, "beta_end": 0.02}


def published_sample():
    return np.moveaxis(np.arange(768, dtype=np.float32).reshape(3, 8, 8, 4) / 768, -1, 0)


def published_noise():
    return np.moveaxis(np.arange(768, dtype=np.float32)[::-1].reshape(3, 8, 8, 4) / 768, -1, 0)


def published_model(sample, t):
    return sample * (t / (t + 1))


def published_loop(sampler, state, rows, *, feed_scaled=False):
    for row in rows:
        scaled = sampler.scale_input(state, row)
        if feed_scaled:
            state = state._replace(latents=scaled)
        state = sampler.step(state, published_model(scaled, row.timesteps), row)
    return np.abs(state.latents)


def published_run(sampler, schedule, **options):
    tables = sampler.tables(schedule, 10)
    return published_loop(sampler, sampler.initialize(jnp.asarray(published_sample()), tables), rows(tables), **options)


@pytest.fixture
def clipped_x0(monkeypatch):
    """diffusers' DDIM tests clip x0 to [-1, 1], as images want it and latents do not: done here around ours."""
    convert = Tables.x0_and_epsilon

    def clipped(self, prediction, sample):
        x0, epsilon = convert(self, prediction, sample)
        return jnp.clip(x0, -1, 1), epsilon

    monkeypatch.setattr(Tables, "x0_and_epsilon", clipped)


@pytest.mark.parametrize(
    ("options", "total", "mean"),
    [
        ({}, 172.0067, 0.223967),
        ({"prediction_type": "v_prediction"}, 52.5302, 0.0684),
        ({"set_alpha_to_one": True, "beta_start": 0.01}, 149.8295, 0.1951),
        ({"set_alpha_to_one": False, "beta_start": 0.01}, 149.0784, 0.1941),
    ],
)
def test_published_ddim_figures(clipped_x0, options, total, mean):
    """tests/schedulers/test_scheduler_ddim.py."""
    latents = published_run(DDIM(), NoiseSchedule(**{**PUBLISHED, **options}))
    assert abs(latents.sum() - total) < 1e-2
    assert abs(latents.mean() - mean) < 1e-4


def test_published_ddim_figures_from_a_noisy_sample(clipped_x0):
    """The last two steps, from the sample with noise added."""
    schedule = NoiseSchedule(**PUBLISHED)
    tables = DDIM().tables(schedule, 10)
    t = jnp.asarray(schedule.timesteps(10)[8])
    noisy = schedule.add_noise(jnp.asarray(published_sample()), jnp.asarray(published_noise()), t)
    latents = published_loop(DDIM(), DDIM().initialize(noisy, tables), rows(tables)[8:])
    assert abs(latents.sum() - 354.5418) < 1e-2
    assert abs(latents.mean() - 0.4616) < 1e-4


class ToTimestepZero(NoiseSchedule):
    """Ten steps that end at the noise level of timestep 0 instead of at zero: the first ten of eleven.

    diffusers' tests of DPM-Solver have `final_sigmas_type="sigma_min"`, which is not its default, and not an option of
    ours.
    """

    def timesteps(self, num_inference_steps):
        return np.round(np.linspace(0, 999, 11))[::-1].astype(np.int64)


@pytest.mark.parametrize(("prediction_type", "mean"), [("epsilon", 0.3301), ("v_prediction", 0.2251)])
def test_published_dpm_solver_figures(prediction_type, mean):
    """tests/schedulers/test_scheduler_dpm_multi.py."""
    sampler = DPMSolverMultistep()
    tables = sampler.tables(
        ToTimestepZero(**PUBLISHED, prediction_type=prediction_type, timestep_spacing="trailing"), 11
    )
    state = sampler.initialize(jnp.asarray(published_sample()), tables)
    assert abs(published_loop(sampler, state, rows(tables)[:10]).mean() - mean) < 1e-4


def test_published_dpm_solver_figures_from_a_noisy_sample():
    """The last five steps, from the sample with noise added."""
    sampler = DPMSolverMultistep()
    schedule = ToTimestepZero(**PUBLISHED, timestep_spacing="trailing")
    tables = sampler.tables(schedule, 11)
    t = jnp.asarray(schedule.timesteps(10)[5])
    noisy = schedule.add_noise(jnp.asarray(published_sample()), jnp.asarray(published_noise()), t)
    first, *others = rows(tables)[5:10]
    first = dataclasses.replace(first, extrapolation=jnp.zeros(()))
    latents = published_loop(sampler, sampler.initialize(noisy, tables), [first, *others])
    assert abs(latents.sum() - 318.4111) < 1e-2
    assert abs(latents.mean() - 0.4146) < 1e-4


def published_euler_schedule(**options):
    """Of 1100 timesteps. The loops of tests/schedulers/test_scheduler_euler.py hand the step the scaled sample, too."""
    return NoiseSchedule(num_train_timesteps=1100, **PUBLISHED, timestep_spacing="linspace", **options)


@pytest.mark.parametrize(
    ("prediction_type", "total", "mean"), [("epsilon", 10.0807, 0.0131), ("v_prediction", 0.0002, 2.2676e-06)]
)
def test_published_euler_figures(prediction_type, total, mean):
    latents = published_run(Euler(), published_euler_schedule(prediction_type=prediction_type), feed_scaled=True)
    assert abs(latents.sum() - total) < 1e-2
    assert abs(latents.mean() - mean) < 1e-4


def test_published_euler_figures_from_a_noisy_sample():
    """The last two steps, from the initial latents with noise added."""
    tables = Euler().tables(published_euler_schedule(), 10)
    state = Euler().initialize(jnp.asarray(published_sample()), tables)
    noisy = state.latents + tables.next_level[7] * published_noise()
    latents = published_loop(Euler(), state._replace(latents=noisy), rows(tables)[8:], feed_scaled=True)
    assert abs(latents.sum() / 57062.9297 - 1) < 1e-6
    assert abs(latents.mean() / 74.3007 - 1) < 1e-5


@pytest.mark.parametrize(("t", "previous", "variance"), [(420, 400, 0.14771), (980, 960, 0.32460)])
def test_published_ddim_variance(t, previous, variance):
    """tests/schedulers/test_scheduler_ddim.py, test_variance: 50 steps of 1000 are 20 apart."""
    tables = DDIM(eta=1.0).tables(NoiseSchedule(beta_start=0.0001, beta_end=0.02), 50)
    (index,) = np.flatnonzero(tables.timesteps == t)
    assert tables.timesteps[index + 1] == previous
    assert abs(tables.noise_scale[index] ** 2 - variance) < 1e-5


@pytest.mark.parametrize(("prefix", "steps"), [("", 20), ("", 25), ("v1_yaml|", 20)])
def test_golden_ddim_steps(golden, prefix, steps):
    path = golden / "tiny" / "ddim.npz"
    if not path.is_file():
        pytest.skip("ddim.npz is not there")
    data = np.load(path)
    if prefix:
        schedule = NoiseSchedule(steps_offset=1)
    else:
        schedule = NoiseSchedule(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=1
        )
    sampler = DDIM()
    sample, model_output = jnp.asarray(data["sample"]), jnp.asarray(data["model_output"])
    for index, row in enumerate(rows(sampler.tables(schedule, steps))):
        state = sampler.step(sampler.initialize(sample, row), model_output, row)
        expected = data[f"{prefix}step_prev_sample|{steps}"][index]
        assert relative_error(np.asarray(state.latents)[None], expected[None]) < 1e-5
        if not prefix:
            x0, _ = row.x0_and_epsilon(model_output, sample)
            assert relative_error(np.asarray(x0)[None], data[f"step_pred_x0|{steps}"][index][None]) < 1e-5


@pytest.mark.parametrize(("steps", "off"), [(20, 0), (25, 0), (50, 0), (30, 10)])
def test_stride_misses_the_next_timestep_where_steps_do_not_divide(steps, off):
    schedule = NoiseSchedule(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    stride, following = (DDIM(previous_timestep=name).tables(schedule, steps) for name in ("stride", "next"))
    np.testing.assert_array_equal(following.next_alpha, np.append(following.alpha[1:], 1))
    np.testing.assert_array_equal(following.next_sigma, np.append(following.sigma[1:], 0))
    assert (stride.next_alpha != following.next_alpha).sum() == off


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), DDIM(eta=1.0), DDIM(previous_timestep="next")], ids=str)
def test_a_perfect_network_gives_its_sample(sampler):
    """Whatever the noise: a network that always predicts the same clean sample ends at it."""
    noise, (x0,) = random_run(1)
    for spacing, zero_snr in itertools.product(SPACINGS, (False, True)):
        schedule = NoiseSchedule(prediction_type="sample", timestep_spacing=spacing, rescale_betas_zero_snr=zero_snr)
        latents = run(sampler, schedule, noise, np.stack([x0] * 8), np.stack([noise] * 8))
        np.testing.assert_allclose(latents[-1], x0, rtol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=str)
def test_scan_under_jit_equals_the_loop(sampler):
    noise, predictions = random_run(12)
    schedule = NoiseSchedule(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")

    @jax.jit
    def scanned(noise, predictions, tables):
        def body(state, inputs):
            state = sampler.step(state, inputs[0], inputs[1])
            return state, state.latents

        return jax.lax.scan(body, sampler.initialize(noise, tables), (predictions, tables))[1]

    latents = scanned(noise, predictions, sampler.tables(schedule, 12))
    np.testing.assert_allclose(latents, run(sampler, schedule, noise, predictions), rtol=1e-5, atol=1e-5)


def test_input_of_euler_is_variance_preserving():
    schedule = NoiseSchedule(timestep_spacing="leading")
    tables = Euler().tables(schedule, 10)
    noise, _ = random_run(1)
    scaled = Euler().scale_input(Euler().initialize(jnp.asarray(noise), tables), rows(tables)[0])
    np.testing.assert_allclose(scaled, noise, rtol=1e-6)
    np.testing.assert_allclose(tables.alpha**2 + tables.sigma**2, 1, rtol=1e-6)


def test_names():
    assert [get_sampler(name) for name in ("ddim", "dpm++", "euler")] == [DDIM(), DPMSolverMultistep(), Euler()]
    with pytest.raises(ValueError, match=r"sampler is 'ddpm', expected one of ddim, dpm\+\+, euler"):
        get_sampler("ddpm")


def test_samplers_are_hashable():
    assert len({DDIM(), DDIM(eta=0.5), DDIM(), Euler(), DPMSolverMultistep()}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.5}, "DDIM.eta is 1.5, expected 0 to 1"),
        ({"previous_timestep": "last"}, "'last', expected 'stride' or 'next'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DDIM(**options)


def test_dpm_solver_with_all_timesteps():
    with pytest.raises(ValueError, match="'leading' spacing takes at most 999 steps, got 1000"):
        DPMSolverMultistep().tables(NoiseSchedule(), 1000)
    assert len(DPMSolverMultistep().tables(NoiseSchedule(timestep_spacing="trailing"), 1000).timesteps) == 1000
