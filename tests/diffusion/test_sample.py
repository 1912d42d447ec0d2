"""The sampling loop: with fake networks against a loop written out, with recorded predictions against golden runs."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.diffusion import (
    DDIM,
    SAMPLERS,
    STATIC_ARGNAMES,
    Guidance,
    Moore,
    NoiseSchedule,
    Paper,
    Shifted,
    Triangular,
    Uniform,
    advance,
    advance_by_windows,
    plan_steps,
    sample,
)

SCHEDULE = NoiseSchedule(
    prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=1
)
STRATEGIES = (
    Paper(length=6),
    Uniform(length=6, overlap=2),
    Triangular(length=6, overlap=3),
    Shifted(length=6, overlap=2),
    Moore(length=6, overlap=2),
)
ONE_WINDOW = Uniform(length=100)
STEPS = 5


def make_noise(frames=15, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((frames, 2, 3, 4), dtype=np.float32))


def pointwise(latents, frames, step, guided):
    """Predicts each value on its own; the two halves of a guided batch differ."""
    branches = (0, 1) if guided else (1,)
    return jnp.concatenate([jnp.sin(latents + 0.3 * branch) + 0.1 * step for branch in branches])


def temporal(latents, frames, step, guided):
    """Every frame sees the others of its window, its place in the window, and which frame of the video it is."""
    position = jnp.arange(latents.shape[1]).reshape(-1, 1, 1, 1)
    number = jnp.tile(frames, (2 if guided else 1, 1))[..., None, None, None]
    context = jnp.cumsum(latents, axis=1) / (position + 1)
    return pointwise(0.5 * latents + 0.5 * context + 0.05 * position, frames, step, guided) + 0.02 * number


@functools.partial(jax.jit, static_argnames=("denoise", *STATIC_ARGNAMES))
def run(denoise, noise, windows, guidance=None, rng=None, *, sampler=SAMPLERS["ddim"], schedule=SCHEDULE, **options):
    options = {"num_inference_steps": STEPS, **options}
    return sample(
        denoise, noise, sampler=sampler, schedule=schedule, windows=windows, guidance=guidance, rng=rng, **options
    )


def written_out(denoise, noise, windows, guidance=None, rng=None, *, sampler=SAMPLERS["ddim"], schedule=SCHEDULE):
    """The same in NumPy, without a scan, a batch or a branch of JAX: one window at a time."""
    state = sampler.initialize(np.asarray(noise), sampler.tables(schedule, STEPS))
    denoise = jax.jit(denoise, static_argnums=3)
    for step, row in enumerate(rows(sampler, schedule)):
        latents = sampler.scale_input(state, row)
        halves = np.zeros((2, *noise.shape), dtype=np.float32)
        for frames, weights in zip(
            windows.frames[step % len(windows.frames)], windows.weights[step % len(windows.frames)], strict=True
        ):
            predictions = np.asarray(denoise(latents[frames][None], frames[None], step, True))
            halves[:, frames] += weights[:, None, None, None] * predictions
        prediction = halves[1]
        if guidance is not None:
            start, end = guidance.interval
            if start <= step / STEPS and (step + 1) / STEPS <= end:
                prediction = np.asarray(guidance(halves[0], halves[1]))
        fresh = None if rng is None else np.asarray(jax.random.normal(jax.random.fold_in(rng, step), noise.shape))
        state = jax.tree.map(np.asarray, sampler.step(state, prediction, row, fresh))
    return state.latents


def rows(sampler, schedule=SCHEDULE):
    """The rows of the sampler's tables, one by one."""
    tables = sampler.tables(schedule, STEPS)
    return [jax.tree.map(lambda column, step=step: column[step], tables) for step in range(STEPS)]


def close(ours, expected, tolerance=2e-5):
    np.testing.assert_allclose(ours, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "guidance",
    [None, Guidance(scale=3.0), Guidance(scale=3.0, rescale=0.7), Guidance(scale=3.0, interval=(0.2, 0.8))],
    ids=["plain", "guided", "rescaled", "interval"],
)
def test_equals_the_loop_written_out(strategy, guidance):
    noise, windows = make_noise(), strategy.plan(15, STEPS)
    close(run(temporal, noise, windows, guidance), written_out(temporal, noise, windows, guidance))


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), DDIM(eta=1.0), DDIM(previous_timestep="next")], ids=str)
def test_all_samplers_equal_the_loop_written_out(sampler):
    noise, windows = make_noise(), Shifted(length=6, overlap=2).plan(15, STEPS)
    rng = jax.random.key(7) if sampler.stochastic else None
    ours = run(temporal, noise, windows, Guidance(scale=2.0), rng, sampler=sampler)
    close(ours, written_out(temporal, noise, windows, Guidance(scale=2.0), rng, sampler=sampler))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("frames", [7, 20])
def test_windows_do_not_matter_to_a_pointwise_network(strategy, frames):
    noise = make_noise(frames)
    windowed = run(pointwise, noise, strategy.plan(frames, STEPS), Guidance(scale=2.5))
    close(windowed, run(pointwise, noise, ONE_WINDOW.plan(frames, STEPS), Guidance(scale=2.5)))


def test_windows_matter_to_a_temporal_network():
    """So the tests above would see a difference."""
    noise = make_noise()
    results = [run(temporal, noise, strategy.plan(15, STEPS)) for strategy in (*STRATEGIES, ONE_WINDOW)]
    for index, result in enumerate(results):
        assert all(jnp.abs(result - other).max() > 1e-2 for other in results[:index])


@pytest.mark.parametrize(
    "guidance",
    [None, Guidance(scale=3.0), Guidance(scale=3.0, interval=(0.0, 0.5))],
    ids=["plain", "guided", "interval"],
)
@pytest.mark.parametrize("window_batch", [1, 3, 100])
def test_chunked_equals_unchunked(guidance, window_batch):
    noise, windows = make_noise(17), Uniform(length=6, overlap=2).plan(17, STEPS)
    assert windows.frames.shape[1] == 4
    batches = []

    def recording(latents, frames, step, guided):
        batches.append((guided, len(latents), len(frames)))
        return temporal(latents, frames, step, guided)

    chunked = run(recording, noise, windows, guidance, window_batch=window_batch)
    close(chunked, run(temporal, noise, windows, guidance), tolerance=1e-6)
    size = {1: 1, 3: 2, 100: 4}[window_batch]  # At most 3 of 4: two equal batches of 2.
    kinds = {False} if guidance is None else {True} if guidance.interval == (0.0, 1.0) else {False, True}
    assert set(batches) == {(guided, size, size) for guided in kinds}


def test_denoise_gets_the_unconditional_half_first():
    """u = 1, c = 3: guided 1 + 2 * 5 = 11. The network sees the latents once, and the frames of each window."""
    windows = Uniform(length=4, overlap=0).plan(8, STEPS)

    def halves(latents, frames, step, guided):
        assert guided and latents.shape == (2, 4, 2, 3, 4) and frames.shape == (2, 4) and frames.dtype == jnp.int32
        assert step.shape == () and step.dtype == jnp.int32
        return jnp.concatenate([jnp.ones_like(latents), 3 * jnp.ones_like(latents)])

    _, trajectory = run(halves, make_noise(8), windows, Guidance(scale=5.0), return_trajectory=True)
    assert jnp.all(trajectory.predictions == 11)


def test_denoise_gets_frames_and_step():
    windows = Moore(length=6, overlap=2).plan(15, STEPS)

    def numbers(latents, frames, step, guided):
        return jnp.broadcast_to(frames[..., None, None, None] + 100.0 * step, latents.shape)

    _, trajectory = run(numbers, make_noise(), windows, return_trajectory=True)
    expected = np.arange(15) + 100.0 * np.arange(STEPS)[:, None]
    np.testing.assert_allclose(
        trajectory.predictions, np.broadcast_to(expected[..., None, None, None], (STEPS, 15, 2, 3, 4)), rtol=1e-6
    )


def test_timesteps_of_steps_are_in_the_tables():
    """A table made beforehand, looked up by step, is what `denoise` needs of the schedule."""
    timesteps = jnp.asarray(SAMPLERS["ddim"].tables(SCHEDULE, STEPS).timesteps)

    def timed(latents, frames, step, guided):
        return jnp.full_like(latents, timesteps[step])

    _, trajectory = run(timed, make_noise(), ONE_WINDOW.plan(15, STEPS), return_trajectory=True)
    np.testing.assert_array_equal(trajectory.predictions[:, 0, 0, 0, 0], SCHEDULE.timesteps(STEPS))


def test_full_interval_equals_plain_guidance():
    noise, windows = make_noise(), Paper(length=6).plan(15, STEPS)
    plain = run(temporal, noise, windows, Guidance(scale=3.0))
    np.testing.assert_array_equal(run(temporal, noise, windows, Guidance(scale=3.0, interval=(0.0, 1.0))), plain)


def test_scale_one_equals_no_guidance():
    noise, windows = make_noise(), Paper(length=6).plan(15, STEPS)
    close(run(temporal, noise, windows, Guidance(scale=1.0)), run(temporal, noise, windows))


def test_steps_outside_the_interval_skip_the_unconditional_half():
    executed = []

    def counting(latents, frames, step, guided):
        jax.debug.callback(lambda step: executed.append((int(step), guided)), step)
        return pointwise(latents, frames, step, guided)

    run(counting, make_noise(), ONE_WINDOW.plan(15, STEPS), Guidance(scale=3.0, interval=(0.2, 0.6)))
    jax.effects_barrier()
    assert sorted(executed) == [(0, False), (1, True), (2, True), (3, False), (4, False)]


def paste(clips, overlaps):
    """What EDGE does between steps, for any overlap: the start of each clip becomes the end of the one before it."""
    clips = clips.copy()
    for index, overlap in enumerate(overlaps, start=1):
        clips[index, :overlap] = clips[index - 1, clips.shape[1] - overlap :]
    return clips


@pytest.mark.parametrize(
    ("frames", "length", "eta"),
    [(6, 6, 0), (9, 6, 0), (15, 6, 0), (15, 6, 1), (14, 6, 0), (17, 6, 0), (10, 4, 0), (11, 5, 0), (9, 1, 0)],
)
def test_paper_equals_edge_word_for_word(frames, length, eta):
    """EDGE denoises clips as videos of their own, and pastes halves after each step: `x[1:, :half] = x[:-1, half:]`."""
    sampler, rng = DDIM(eta=eta), jax.random.key(3)
    noise, windows = make_noise(frames), Paper(length=length).plan(frames, STEPS)
    numbers = windows.frames[0]
    clips = np.asarray(noise)[numbers]
    overlaps = [length - (after - before) for before, after in zip(numbers[:-1, 0], numbers[1:, 0], strict=True)]
    half = length // 2
    if (frames - length) % (length - half) == 0:
        # No window was moved back: pasting clip by clip is EDGE's one assignment.
        at_once = clips.copy()
        at_once[1:, :half] = clips[:-1, length - half :]
        np.testing.assert_array_equal(paste(clips, overlaps), at_once)
    denoise = jax.jit(temporal, static_argnums=3)
    for step, row in enumerate(rows(sampler)):
        fresh = np.asarray(jax.random.normal(jax.random.fold_in(rng, step), noise.shape))[numbers] if eta else None
        prediction = np.asarray(denoise(clips, numbers, step, False))
        clips = paste(sampler.step(sampler.initialize(clips, row), prediction, row, fresh).latents, overlaps)
    video = np.zeros(noise.shape, dtype=np.float32)
    video[numbers] = clips
    close(run(temporal, noise, windows, rng=rng, sampler=sampler), video)


def test_new_values_do_not_retrace():
    traces = []

    def counted(latents, frames, step, guided):
        traces.append(latents.shape)
        return temporal(latents, frames, step, guided)

    plan, stochastic = Paper(length=6).plan(15, STEPS), DDIM(eta=0.5)
    results = [run(counted, make_noise(), plan, Guidance(scale=3.5), jax.random.key(0), sampler=stochastic)]
    once = len(traces)
    for noise, windows, guidance, rng in (
        (make_noise(), plan, Guidance(scale=7.0), jax.random.key(0)),
        (make_noise(seed=1), plan, Guidance(scale=3.5), jax.random.key(0)),
        (make_noise(), plan, Guidance(scale=3.5), jax.random.key(1)),
        (
            make_noise(),
            dataclasses.replace(plan, weights=plan.weights[:, ::-1]),
            Guidance(scale=3.5),
            jax.random.key(0),
        ),
        (make_noise(), Paper(length=6).plan(15, STEPS), Guidance(), jax.random.key(0)),
    ):
        results.append(run(counted, noise, windows, guidance, rng, sampler=dataclasses.replace(stochastic)))
    assert len(traces) == once
    np.testing.assert_array_equal(results[0], results[-1])
    for result in results[1:-1]:
        assert jnp.abs(result - results[0]).max() > 1e-3
    jax.eval_shape(functools.partial(run, counted, num_inference_steps=4), make_noise(), plan, Guidance(scale=3.5))
    assert len(traces) == 2 * once


@functools.partial(jax.jit, static_argnames=("denoise", "sampler"))
def run_part(denoise, state, steps, span, guidance=None, rng=None, *, sampler):
    return advance(denoise, state, steps, span, sampler=sampler, guidance=guidance, rng=rng)


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), DDIM(eta=1.0)], ids=str)
@pytest.mark.parametrize("rows", [None, 8])
def test_a_run_in_parts_equals_one_in_a_scan(sampler, rows):
    """In parts of any length, each traced once, with rows beyond the last step or without."""
    traces = []

    def counted(latents, frames, step, guided):
        traces.append(1)
        return temporal(latents, frames, step, guided)

    noise, windows = make_noise(), Shifted(length=6, overlap=2).plan(15, STEPS)
    guidance, rng = Guidance(scale=2.0, interval=(0.0, 0.6)), jax.random.key(7)
    steps = plan_steps(sampler, SCHEDULE, STEPS, windows, guidance, window_batch=2, rows=rows)
    assert len(steps.number) == (rows or STEPS)
    state = sampler.initialize(noise, steps.tables)
    part = functools.partial(run_part, counted, sampler=sampler)
    state = part(state, steps, np.array([0, 1]), guidance, rng)
    once = len(traces)
    for span in ((1, 1), (1, 4), (4, STEPS)):
        state = part(state, steps, np.array(span), guidance, rng)
    assert len(traces) == once
    close(state.latents, run(temporal, noise, windows, guidance, rng, sampler=sampler), 1e-6)


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), DDIM(eta=1.0)], ids=str)
@pytest.mark.parametrize("guidance", [None, Guidance(scale=2.0, interval=(0.0, 0.6)), Guidance(scale=2.0, rescale=0.5)])
def test_a_run_by_windows_equals_one_in_a_scan(sampler, guidance):
    """A batch of windows after the other, and unguided where the step is."""
    calls = []

    def counted(latents, frames, step, guided):
        calls.append((frames.shape, int(step), guided))
        return temporal(latents, frames, step, guided)

    noise, windows, rng = make_noise(), Shifted(length=6, overlap=2).plan(15, STEPS), jax.random.key(7)
    steps = plan_steps(sampler, SCHEDULE, STEPS, windows, guidance, window_batch=2)
    state = sampler.initialize(noise, steps.tables)
    for number in range(STEPS):
        state = advance_by_windows(counted, state, steps, number, sampler=sampler, guidance=guidance, rng=rng)
    close(state.latents, run(temporal, noise, windows, guidance, rng, sampler=sampler), 1e-6)
    guided = guidance.guided_steps(STEPS) if guidance else STEPS * [False]
    assert calls == [((2, 6), step, bool(guided[step])) for step in range(STEPS) for _ in range(2)]


def test_another_number_of_steps_is_the_same_program():
    traces = []

    def counted(latents, frames, step, guided):
        traces.append(1)
        return temporal(latents, frames, step, guided)

    noise, sampler = make_noise(), SAMPLERS["dpm++"]
    for number in (STEPS, 3, 8):
        windows = Shifted(length=6, overlap=2).plan(15, number)
        steps = plan_steps(sampler, SCHEDULE, number, windows, rows=8)
        state = run_part(
            counted, sampler.initialize(noise, steps.tables), steps, np.array([0, number]), sampler=sampler
        )
        close(state.latents, run(temporal, noise, windows, sampler=sampler, num_inference_steps=number), 1e-6)
    assert len(traces) == 1


def test_a_stochastic_run_is_a_function_of_its_key():
    noise, windows, sampler = make_noise(), Paper(length=6).plan(15, STEPS), DDIM(eta=1.0)
    first, again, other = (
        run(temporal, noise, windows, rng=jax.random.key(seed), sampler=sampler) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 1e-2
    assert jnp.abs(first - run(temporal, noise, windows)).max() > 1e-2


def test_a_deterministic_run_does_not_use_its_key():
    noise, windows = make_noise(), Paper(length=6).plan(15, STEPS)
    np.testing.assert_array_equal(run(temporal, noise, windows, rng=jax.random.key(0)), run(temporal, noise, windows))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=str)
def test_trajectory(sampler):
    noise, windows = make_noise(), Uniform(length=6, overlap=2).plan(15, STEPS)
    latents, trajectory = run(temporal, noise, windows, Guidance(), sampler=sampler, return_trajectory=True)
    np.testing.assert_array_equal(latents, run(temporal, noise, windows, Guidance(), sampler=sampler))
    np.testing.assert_array_equal(latents, trajectory.latents[-1])
    assert trajectory.latents.shape == trajectory.predictions.shape == (STEPS, *noise.shape)
    state = sampler.initialize(np.asarray(noise), sampler.tables(SCHEDULE, STEPS))
    for step, row in enumerate(rows(sampler)):
        state = jax.tree.map(np.asarray, sampler.step(state, np.asarray(trajectory.predictions[step]), row))
        close(trajectory.latents[step], state.latents)


def test_a_network_in_bfloat16_leaves_latents_in_float32():
    def half(latents, frames, step, guided):
        return pointwise(latents, frames, step, guided).astype(jnp.bfloat16)

    noise, windows = make_noise(), Uniform(length=6, overlap=2).plan(15, STEPS)
    latents = run(half, noise.astype(jnp.bfloat16), windows, Guidance(scale=2.0))
    assert latents.dtype == jnp.float32
    close(latents, run(pointwise, noise, windows, Guidance(scale=2.0)), tolerance=0.05)


def test_runs_without_jit():
    noise, windows = make_noise(), Uniform(length=6, overlap=2).plan(15, STEPS)
    latents = sample(temporal, noise, sampler=DDIM(), schedule=SCHEDULE, num_inference_steps=STEPS, windows=windows)
    close(latents, run(temporal, noise, windows))


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("pose2vid", ONE_WINDOW),
        ("pose2vid_nocfg", ONE_WINDOW),
        ("pose2vid_unequal", ONE_WINDOW),
        ("pose2vid_long", Moore(length=8, overlap=2)),
        ("pose2vid_long_unequal", Moore(length=8, overlap=2)),
        ("pose2vid_long_onewindow", Moore(length=8, overlap=2)),
        ("pose2vid_long_nocfg", Moore(length=8, overlap=4)),
    ],
)
def test_golden_runs(golden, name, strategy):
    """The network's recorded predictions in, the recorded latents after each step out."""
    path = golden / "tiny" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{name}.npz is not there")
    data, meta = np.load(path), json.loads(path.with_suffix(".json").read_text())
    noise = channels_last(data["noise"])[0]
    steps, cfg = meta["steps"], meta["cfg"]
    windows = strategy.plan(len(noise), steps)
    # Calls go window by window in each step: (s, n, r, l, h, w, c) -> (s, r, n, l, h, w, c).
    calls = channels_last(data["unet_prediction_calls"])
    calls = calls.reshape(steps, -1, *calls.shape[1:]).swapaxes(1, 2)
    assert calls.shape[2:4] == windows.frames.shape[1:]
    if name == "pose2vid_long_nocfg":
        # Moore sums overlapping windows where there is no guidance.
        windows = dataclasses.replace(windows, weights=np.ones_like(windows.weights))
    recorded = jnp.asarray(calls.reshape(steps, -1, *calls.shape[3:]))

    def replay(latents, frames, step, guided):
        assert ((2 if guided else 1) * len(latents), *latents.shape[1:]) == recorded.shape[1:]
        return recorded[step]

    guidance = Guidance(scale=cfg)
    np.testing.assert_array_equal(SCHEDULE.timesteps(steps), data["timesteps"])
    latents, trajectory = run(
        replay,
        noise,
        windows,
        guidance if guidance.enabled else None,
        num_inference_steps=steps,
        return_trajectory=True,
    )
    close(trajectory.predictions, channels_last(data["guided_prediction"])[:, 0], tolerance=1e-6)
    close(trajectory.latents, channels_last(data["latents_after_step"])[:, 0], tolerance=1e-5)
    np.testing.assert_array_equal(latents, trajectory.latents[-1])


def channels_last(video):
    """(..., c, t, h, w) -> (..., t, h, w, c)."""
    return np.moveaxis(video, -4, -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": jnp.zeros((2, 3, 4))}, r"noise has shape \(2, 3, 4\), expected \(frames, height, width, channels\)"),
        ({"noise": make_noise(14)}, "windows were planned for 15 frames, but noise has 14"),
        ({"windows": Shifted(length=6, overlap=2).plan(15, 7)}, "planned for 7 steps, num_inference_steps is 5"),
        ({"window_batch": 0}, "window_batch is 0, expected 1 or more, or None"),
        ({"sampler": DDIM(eta=0.5)}, r"DDIM\(eta=0.5.*draws noise in every step: pass rng"),
        ({"num_inference_steps": 1001}, "num_inference_steps is 1001, expected 1 to 1000"),
        ({"guidance": Guidance(interval=(0.0, 0.1))}, "holds none of 5 steps"),
        ({"denoise": lambda latents, frames, step, guided: latents[..., :1]}, "denoise gave predictions of shape"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    arguments = {
        "denoise": temporal,
        "noise": make_noise(),
        "sampler": DDIM(),
        "schedule": SCHEDULE,
        "num_inference_steps": STEPS,
        "windows": Uniform(length=6, overlap=2).plan(15, STEPS),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        sample(arguments.pop("denoise"), arguments.pop("noise"), **arguments)
