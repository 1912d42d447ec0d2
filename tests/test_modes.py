"""Faster modes: what they set, and evaluations that use another's inner features."""

import dataclasses

import numpy as np
import pytest

from aa_jax.animator import Animator
from aa_jax.request import Request
from tests.golden_tools import relative_error
from tests.small_models import SMALL_STACK, write_small_stack

OPTIONS = {"guidance_scale": 2.0, "height": 32, "width": 24, "output_type": "latent", "windows": "uniform"}


@pytest.fixture(scope="module")
def animator(tmp_path_factory):
    return Animator.from_pretrained(write_small_stack(tmp_path_factory.mktemp("model") / "model"))


@pytest.fixture
def calls(animator, monkeypatch):
    """Of the network: step by step, whether it was given inner features, and whether guided."""
    made = []
    call = type(animator.programs.predict).__call__

    def spy(program, *args, **options):
        if program is animator.programs.predict:
            made.append((args[-1] is not None, options["guided"]))
        return call(program, *args, **options)

    monkeypatch.setattr(type(animator.programs.predict), "__call__", spy)
    return made


def scene(frames):
    reference, *drawn = np.random.default_rng(0).integers(0, 256, (frames + 1, 32, 24, 3), np.uint8)
    return reference, np.stack(drawn)


def test_modes():
    def of_steps(steps):
        inference = dataclasses.replace(SMALL_STACK.inference, num_inference_steps=steps)
        return dataclasses.replace(SMALL_STACK, inference=inference)

    many, few = of_steps(20), of_steps(10)
    exact, fast, turbo = (Request.of(many, mode=mode) for mode in ("exact", "fast", "turbo"))
    assert [(r.num_inference_steps, r.reuse) for r in (exact, fast, turbo)] == [(20, 1), (10, 1), (10, 2)]
    assert exact == Request.of(many) and fast.sampler == turbo.sampler != exact.sampler
    assert Request.of(few, mode="turbo") == Request.of(few)
    given = Request.of(many, mode="turbo", sampler="ddim", num_inference_steps=7, reuse=3)
    assert (given.sampler, given.num_inference_steps, given.reuse) == (exact.sampler, 7, 3)
    with pytest.raises(ValueError, match="mode is 'hasty', expected one of exact, fast, turbo"):
        Request.of(SMALL_STACK, mode="hasty")


@pytest.mark.parametrize("guided", [True, False])
def test_its_own_inner_features_give_the_same(animator, guided):
    """What an evaluation keeps is what its last layer needs beside conv_in's output."""
    rng = np.random.default_rng(0)
    conditions = animator.programs.encode_reference(
        animator.weights,
        rng.uniform(-1, 1, (1, 32, 24, 3)).astype(np.float32),
        rng.standard_normal((1, *(2 * [SMALL_STACK.image_encoder.image_size]), 3)).astype(np.float32),
        guided=guided,
    )
    poses = animator.encode_poses(scene(4)[1])[None]
    latents, other = rng.standard_normal((2, 1, 4, *poses.shape[2:4], 12)).astype(np.float32)

    def predict(latents, inner):
        given = (animator.weights, latents, poses, np.float32(300), conditions, None, inner)
        return animator.programs.predict(*given, guided=guided, reuse=True)

    full, inner = predict(latents, None)
    again, nothing = predict(latents, inner)
    assert nothing is None and relative_error(again, full) < 1e-6
    moved, _ = predict(other, inner)
    assert relative_error(moved, full) > 1e-3


@pytest.mark.parametrize("frames", [4, 7])
def test_every_other_step_is_full(animator, calls, frames):
    """In one window and in several; an evaluation for each step alone is what a run without gives."""
    options = {**OPTIONS, "window_overlap": 1, "num_inference_steps": 3}
    windows = 1 if frames == 4 else 2
    exact = animator(*scene(frames), **options)
    calls.clear()
    found = animator(*scene(frames), **options, reuse=2)
    assert [again for again, _ in calls] == [*windows * [False], *windows * [True], *windows * [False]]
    assert found.shape == exact.shape and relative_error(found, exact) > 1e-4


def test_steps_without_guidance(animator, calls):
    """An unguided step uses the conditional half of a guided one; a guided one nothing of an unguided one."""
    options = {**OPTIONS, "num_inference_steps": 4, "reuse": 4}
    animator(*scene(4), **options, guidance_interval=(0.0, 0.5))
    assert calls == [(False, True), (True, True), (True, False), (True, False)]
    calls.clear()
    animator(*scene(4), **options, guidance_interval=(0.5, 1.0))
    assert calls == [(False, False), (True, False), (False, True), (True, True)]


def test_memory_of_what_is_kept(animator):
    plain = {name: value for name, value in OPTIONS.items() if name != "output_type"}
    once, kept = (animator.plan(7, **plain, window_overlap=1, reuse=reuse).programs for reuse in (1, 2))
    kept_shapes = [found.out_info[1] for found in animator.programs.predict.executables.values()]
    inner = [shape for shape in kept_shapes if shape is not None and shape.shape[:2] == (2, 4)]
    assert kept["predict"] >= once["predict"] + 2 * inner[0].size * inner[0].dtype.itemsize
