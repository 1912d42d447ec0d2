"""The plan of an animation's memory is that of its programs, a budget is kept to, and what it costs is no result."""

import itertools
import re

import jax
import numpy as np
import pytest
from PIL import Image

from aa_jax import animate, memory
from aa_jax.animator import Animator
from aa_jax.memory import in_units, parse_size
from aa_jax.video import write_video
from tests.golden_tools import relative_error
from tests.small_models import write_small_stack

WINDOW = 4
SIZES = ((32, 24), (64, 48))
OPTIONS = {"num_inference_steps": 2, "guidance_scale": 2.0, "windows": "uniform", "window_overlap": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_stack(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def animator(folder):
    return Animator.from_pretrained(folder)


def scene(frames, height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(
        0, 256, (frames, height, width, 3), np.uint8
    )


@pytest.mark.parametrize("size", SIZES)
def test_budgets_are_kept_to(animator, size):
    """Between all and one frame at a time, on a grid: what is chosen fits, and the next larger choice would not."""
    height, width = size
    options = {**OPTIONS, "height": height, "width": width}
    most = animator.plan(WINDOW, **options)
    least = animator.plan(WINDOW, **options, layer_frames=1, frame_batch=1)
    assert least.total < most.total
    totals = {
        frames: animator.plan(WINDOW, **options, layer_frames=frames, frame_batch=min(4, frames)).total
        for frames in (1, 2)
    } | {None: most.total}
    for budget in np.linspace(least.total, most.total, 5).astype(int).tolist():
        plan = animator.plan(WINDOW, **options, memory_budget=budget)
        assert plan.total <= budget
        chosen = plan.request.layer_frames
        assert plan.total == totals[chosen]
        larger = {None: None, 2: None, 1: 2}[chosen]
        assert chosen is None or totals[larger] > budget


def test_a_budget_that_is_too_small(animator):
    options = {**OPTIONS, "height": 32, "width": 24}
    least = animator.plan(WINDOW, **options, layer_frames=1, frame_batch=1)
    message = f"memory_budget is 1.00 MiB, but the smallest that works is {in_units(least.total)}"
    with pytest.raises(ValueError, match=message):
        animator.plan(WINDOW, **options, memory_budget=2**20)
    with pytest.raises(ValueError, match="the smallest that works"):
        animator(*scene(WINDOW, 32, 24), **options, memory_budget=2**20)


def test_the_plan_holds_what_xla_counts(folder):
    """The plan is no less than any program's own account, and no more than that and what is kept beside it."""
    animator = Animator.from_pretrained(folder)
    plan = animator.plan(WINDOW, **OPTIONS, height=32, width=24)
    weights = sum(leaf.nbytes for leaf in animator.leaves())
    for name, total in plan.programs.items():
        (executable,) = animator.programs.named[name].executables.values()
        found = executable.memory_analysis()
        own = found.output_size_in_bytes + found.temp_size_in_bytes
        assert total >= max(own + found.argument_size_in_bytes, own + weights)
        assert total <= 1.2 * (own + found.argument_size_in_bytes + weights)


def test_long_videos_grow_in_latents_alone(animator):
    options = {**OPTIONS, "height": 32, "width": 24}
    plans = {frames: animator.plan(frames, **options) for frames in (20, 200, 2000)}
    latents = {frames: memory.COPIES * 4 * np.prod(animator_latents(animator, frames, 32, 24)) for frames in plans}
    for few, many in itertools.pairwise(plans):
        grown = plans[many].programs["predict"] - plans[few].programs["predict"]
        assert grown == latents[many] - latents[few]


def animator_latents(animator, frames, height, width):
    downscale = animator.config.downscale
    return frames, height // downscale, width // downscale, animator.config.vae.latent_channels


@pytest.mark.parametrize("frames", [WINDOW, 7])
def test_the_result_is_the_same(animator, folder, frames):
    """Whatever the budget, and with the weights in the host's memory; in one window and in several."""
    given, options = scene(frames, 32, 24), {**OPTIONS, "height": 32, "width": 24, "output_type": "np"}
    expected = animator(*given, **options)
    least = animator.plan(frames, **OPTIONS, height=32, width=24, layer_frames=1, frame_batch=1)
    assert relative_error(animator(*given, **options, memory_budget=least.total), expected) < 1e-5
    offloading = Animator.from_pretrained(folder, offload=True)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(offloading.weights))
    np.testing.assert_array_equal(offloading(*given, **options), expected)
    frames_alone = np.stack(list(animator.frames(*given, **OPTIONS, height=32, width=24)))
    np.testing.assert_array_equal(frames_alone, np.round(expected * 255).astype(np.uint8))


def test_offloading_takes_less(animator, folder):
    options = {**OPTIONS, "height": 32, "width": 24}
    offloading = Animator.from_pretrained(folder, offload=True).plan(WINDOW, **options)
    plan = animator.plan(WINDOW, **options)
    assert offloading.programs["decode"] < plan.programs["decode"]
    assert offloading.weights < plan.weights


def test_sizes():
    assert [parse_size(text) for text in ("12GiB", "1.5 kb", "800MB", "77")] == [12 << 30, 1500, 800 * 10**6, 77]
    for text in ("", "GiB", "12 parsecs", "0", "-1GiB"):
        with pytest.raises(ValueError, match="is no size of memory, expected one such as 12GiB"):
            parse_size(text)
    assert [in_units(size) for size in (5, 2**20, 3 * 2**29)] == ["5.00 B", "1.00 MiB", "1.50 GiB"]


def test_the_command(folder, capsys, tmp_path):
    command = animate.parser()
    with pytest.raises(SystemExit, match="2"):
        command.parse_args(["--model", "m", "--reference", "r", "--pose", "p", "--output", "o", "--memory-budget", "x"])
    assert "'x' is no size of memory" in capsys.readouterr().err


def test_the_command_tells_the_plan(folder, capsys, tmp_path):
    """And the time of the run is without that of the plan's compiling."""
    reference, drawn = scene(2, 52, 44)
    Image.fromarray(reference).save(tmp_path / "reference.png")
    write_video(tmp_path / "pose", drawn, 8)
    files = {"model": folder, "reference": "reference.png", "pose": "pose", "output": "out.mp4"}
    words = [f"--{name}={tmp_path / file}" for name, file in files.items()]
    assert animate.main([*words, "--memory-budget=1GiB"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert re.match(r"\d+\.\d\d MiB \(weights .* MiB; most in .*\), layers with all frames at a time", said["memory"])
    assert float(said["run"].split()[0]) > 0
