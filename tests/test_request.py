"""What decides the programs of an animation, with the model's defaults filled in."""

import dataclasses

import pytest

from aa_jax.diffusion.samplers import DDIM
from aa_jax.diffusion.windows import Paper, Uniform
from aa_jax.request import Request
from tests.small_models import SMALL_STACK


def test_the_models_defaults():
    request = Request.of(SMALL_STACK)
    inference = SMALL_STACK.inference
    assert (request.height, request.width) == (inference.height, inference.width)
    assert request.num_inference_steps == inference.num_inference_steps
    assert request.guidance.scale == inference.guidance_scale and request.enabled_guidance == request.guidance
    assert request.latents(3) == (3, 13, 11, 12)
    assert Request.of(SMALL_STACK, guidance_scale=1).enabled_guidance is None
    assert Request.of(SMALL_STACK, windows="paper", window_length=6).windows == Paper(length=6)
    assert Request.of(SMALL_STACK, windows=Uniform(length=3, overlap=1)).windows == Uniform(length=3, overlap=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 62}, "height is 62, expected a positive multiple of 4, such as 64"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0, expected 1 or more"),
        ({"frame_batch": 0}, "frame_batch is 0, expected 1 or more"),
        ({"window_length": 9}, "window_length is 9, but the temporal layers have 8 positions"),
        ({"windows": "endless"}, "windows is 'endless', expected one of"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Request.of(SMALL_STACK, **options)


def test_buckets():
    """Videos that one window holds share 8 frames and any number of steps."""
    request = Request.of(SMALL_STACK, windows="uniform", window_length=8, window_overlap=2)
    runs = [request.denoising(frames) for frames in (7, 8)]
    assert [run.num_frames for run in runs] == [8, 8] and [run.true_frames for run in runs] == [7, 8]
    longer = [request.denoising(frames) for frames in range(9, 15)]
    assert [run.num_frames for run in longer] == [*range(9, 15)] and {run.true_frames for run in longer} == {None}
    assert [run.whole for run in (*runs, *longer)] == 2 * [True] + 6 * [False]
    more_steps = dataclasses.replace(request, num_inference_steps=64).denoising(8)
    assert len({run.steps.frames.shape for run in (*runs, more_steps)}) == 1


@pytest.mark.parametrize(
    "options", [{"bucket_frames": False}, {"sampler": DDIM(eta=1.0)}, {"guidance_rescale": 0.5}], ids=str
)
@pytest.mark.parametrize("frames", [3, 5, 11])
def test_no_buckets_where_frames_would_change(options, frames):
    """All frames' statistics and noise are one array's."""
    run = Request.of(SMALL_STACK, window_length=8, **options).denoising(frames)
    assert run.num_frames == frames and run.true_frames is None


def test_a_norm_over_all_frames_of_a_window():
    network = dataclasses.replace(SMALL_STACK.denoising_unet, group_norm_over_frames=True)
    request = Request.of(dataclasses.replace(SMALL_STACK, denoising_unet=network), window_length=8)
    assert request.denoising(7).num_frames == 7 and request.denoising(7).true_frames is None
