"""Whole animations against recorded runs of the published PyTorch pipelines: preprocessing, every network call, every
step, the video.

The model folder carries Moore's options; what its short pipeline does otherwise is set here.
"""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from aa_jax import preprocess
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.samplers import DDIM
from aa_jax.diffusion.windows import WindowPlan, get_windows
from tests.golden_tools import channels_last, load, read_json, relative_error

SINGLE, PIPELINE = 1e-4, 1e-3
SHORT = ("pose2vid", "pose2vid_nocfg", "pose2vid_unequal", "pose2vid_bank_fp32")
LONG = (
    "pose2vid_long",
    "pose2vid_long_unequal",
    "pose2vid_long_nocfg",
    "pose2vid_long_onewindow",
    "pose2vid_long_bank_fp32",
)


def first_of(x: np.ndarray) -> np.ndarray:
    """(1, c, t, h, w) as (t, h, w, c)."""
    return channels_last(x)[0]


class Run:
    """One recorded run, and the same run by ours."""

    def __init__(self, golden, animator, name):
        self.expected = load(golden, f"tiny/{name}.npz")
        self.facts = read_json(golden, f"tiny/{name}.json")
        # The float32-bank runs share the inputs of the run they are named after.
        self.inputs = load(golden, f"tiny/{name.removesuffix('_bank_fp32')}.npz")
        changes = {}
        if name in SHORT:
            changes |= {"clip_resize": "shortest_edge", "pose_resample": "bicubic"}
        if name.endswith("_bank_fp32"):
            changes |= {"bank_dtype": "float32"}
        self.animator = animator.with_inference(**changes) if changes else animator
        self.height, self.width = self.facts["height"], self.facts["width"]
        self.steps, self.scale = self.facts["steps"], self.facts["cfg"]
        self.guided = self.scale > 1
        self.noise = first_of(self.inputs["noise"])
        self.windows = get_windows(
            "moore",
            length=self.facts.get("context_frames", 24),
            overlap=self.facts.get("context_overlap", 4),
        )

    @functools.cached_property
    def pixels(self):
        inference = self.animator.config.inference
        image = self.inputs["ref_image_uint8"]
        frame = preprocess.reference_frame(image, self.height, self.width, "stretch", inference)
        drawn = preprocess.pose_frames(self.inputs["pose_images_uint8"], self.height, self.width, "stretch", inference)
        return preprocess.vae_pixels(frame), preprocess.clip_pixels(image, 224, inference), drawn

    @functools.cached_property
    def conditions(self):
        reference, clip, _ = self.pixels
        programs = self.animator.programs
        return programs.encode_reference(self.animator.weights, reference, clip, guided=self.guided)

    @functools.cached_property
    def poses(self):
        return self.animator.encode_poses(self.pixels[2], len(self.noise))

    def plan(self) -> WindowPlan:
        return self.windows.plan(len(self.noise), self.steps)

    def sampled(self, plan: WindowPlan):
        """Latents and trajectory."""
        return self.animator.programs.denoise(
            self.animator.weights,
            self.noise,
            self.poses,
            self.conditions,
            plan,
            Guidance(scale=self.scale) if self.guided else None,
            jax.random.key(0),
            sampler=DDIM(previous_timestep="stride"),
            schedule=self.animator.config.schedule,
            num_inference_steps=self.steps,
            window_batch=None,
            return_trajectory=True,
        )


@pytest.fixture(scope="module", params=SHORT + LONG)
def run(request, golden, animator):
    return Run(golden, animator, request.param)


def test_preprocessing_and_conditions(run):
    if "ref_image_tensor" not in run.expected:
        pytest.skip("this run records no inputs of its own")
    reference, clip, drawn = run.pixels
    np.testing.assert_allclose(np.moveaxis(clip, -1, 1), run.expected["clip_pixel_values"], atol=2e-6)
    np.testing.assert_allclose(np.moveaxis(reference, -1, 1), run.expected["ref_image_tensor"], atol=2e-6)
    np.testing.assert_allclose(drawn / 255, first_of(run.expected["pose_cond"]), atol=2e-6)
    assert relative_error(run.poses, first_of(run.expected["pose_fea"])) < SINGLE
    weights, graphs = run.animator.weights, run.animator.programs.graphs
    encoder, vae = (nnx.merge(graphs[name], weights[name]) for name in ("image_encoder", "vae"))
    assert relative_error(jax.jit(encoder)(clip), run.expected["clip_image_embeds"]) < SINGLE
    mean = jax.jit(vae.encode)(reference).mean
    assert relative_error(mean, channels_last(run.expected["vae_mean"])) < SINGLE
    latents = np.broadcast_to(
        mean * run.animator.config.vae.scaling_factor, channels_last(run.expected["ref_latents_in"]).shape
    )
    assert relative_error(latents, channels_last(run.expected["ref_latents_in"])) < SINGLE
    assert run.expected["ref_timestep"] == 0
    tokens = run.expected["ref_encoder_hidden_states"]
    assert np.array_equal(tokens[-1, 0], run.expected["clip_image_embeds"][0]) and (
        len(tokens) == 1 or not tokens[0].any()
    )


def test_every_call_of_the_denoising_unet(run):
    """Each recorded call, from the recorded latents that went into it."""
    if "unet_prediction_calls" not in run.expected:
        pytest.skip("this run records no calls")
    calls, timesteps = run.expected["unet_prediction_calls"], run.expected["unet_prediction_timesteps"]
    network = nnx.merge(run.animator.programs.graphs["denoising_unet"], run.animator.weights["denoising_unet"])
    frames = run.plan().frames[0]
    states = [run.noise, *map(first_of, run.expected["latents_after_step"])]
    poses, conditions = run.poses, run.conditions  # of programs of their own, which cannot be called inside another

    @jax.jit
    def evaluate(latents, frames, t):
        clip, pose = (part[frames][None] for part in (latents, poses))
        return network(clip, network.embed_time(t[None]), conditions, pose)

    assert len(calls) == run.steps * len(frames)
    for index, (theirs, t) in enumerate(zip(calls, timesteps, strict=True)):
        step, window = divmod(index, len(frames))
        ours = evaluate(states[step], frames[window], t)
        assert relative_error(ours, channels_last(theirs)) < SINGLE, (step, window)
        if index == 0 and "den_first_in" in run.expected:
            first = np.stack([run.noise[frames[0]]] * len(theirs))
            assert np.array_equal(first, channels_last(run.expected["den_first_in"]))


def test_steps_and_video(run):
    plan = run.plan()
    if run.facts["kind"] == "long" and not run.guided:
        plan = summed(plan)
    latents, trajectory = run.sampled(plan)
    assert np.array_equal(DDIM().tables(run.animator.config.schedule, run.steps).timesteps, run.expected["timesteps"])
    steps = [("latents_after_step", trajectory.latents), ("guided_prediction", trajectory.predictions)]
    for key, ours in steps:
        for index, theirs in enumerate(run.expected.get(key, ())):
            assert relative_error(ours[index], first_of(theirs)) < PIPELINE, (key, index)
    video = run.animator.decode(latents, len(run.noise))
    assert relative_error(video, first_of(run.expected["video"])) < PIPELINE


def summed(plan: WindowPlan) -> WindowPlan:
    """Predictions of overlapping windows added up: Moore's fault where there is no guidance."""
    return WindowPlan(frames=plan.frames, weights=np.ones_like(plan.weights), num_frames=plan.num_frames)


def test_windows_are_averaged_without_guidance(golden, animator):
    """The correct result where Moore's is faulty: its recorded first sum, divided by the number of windows that hold
    a frame."""
    run = Run(golden, animator, "pose2vid_long_nocfg")
    plan = run.plan()
    counts = np.bincount(plan.frames[0].ravel())
    assert counts.max() > 1
    _, trajectory = run.sampled(plan)
    theirs = first_of(run.expected["guided_prediction"][0]) / counts[:, None, None, None]
    assert relative_error(trajectory.predictions[0], theirs) < PIPELINE


def test_animator_gives_the_recorded_video(golden, animator):
    """The public call on the run whose sizes all differ: reference 83x100, pose 110x72, video 96x64."""
    run = Run(golden, animator, "pose2vid_long_unequal")
    video = animator(
        run.inputs["ref_image_uint8"],
        run.inputs["pose_images_uint8"],
        height=run.height,
        width=run.width,
        num_inference_steps=run.steps,
        guidance_scale=run.scale,
        latents=run.noise,
        window_length=8,
        window_overlap=2,
        resize="stretch",
        output_type="np",
    )
    assert relative_error(video, first_of(run.expected["video"])) < PIPELINE
