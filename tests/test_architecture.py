"""The architecture page's tables of shapes are the code's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aa_jax import preprocess
from aa_jax.config import InferenceConfig
from aa_jax.data.pipeline import stack
from aa_jax.data.sample import SampleConfig, make_sample
from aa_jax.diffusion import get_windows
from aa_jax.models.bundle import abstract_network
from aa_jax.models.config import CLIPVisionConfig, UNetConfig, VAEConfig
from aa_jax.pose import Keypoints
from tests.pages import ROOT
from tests.small_models import SMALL_STACK

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DOORS = {
    name: (shape, last.strip(" |"))
    for name, shape, last in re.findall(r"^\| `(\w+)` \|[^|]+\| `(\(.+?\))` \|(.*)$", PAGE, flags=re.M)
}
T, H, W = 6, 64, 48


def evaluated(shape, letters):
    """A row's shape in numbers."""
    return tuple(eval(shape.replace("/", "//"), {}, letters))


def keypoints(frames):
    points = np.random.default_rng(0).uniform(0.2, 0.8, (frames, 134, 2))
    return Keypoints(points=points, scores=np.ones((frames, 134)), height=H, width=W, fps=12.0)


def animation():
    """What goes through each door of the small system, as arrays or as their shapes."""
    config = SMALL_STACK
    inference = config.inference
    image = np.zeros((2 * H, 2 * W, 3), np.uint8)
    networks = {name: nnx.split(abstract_network(name, getattr(config, name))) for name in config.networks}

    def call(name, function, *inputs):
        graph, state = networks[name]
        return jax.eval_shape(lambda state, *inputs: function(nnx.merge(graph, state), *inputs), state, *inputs)

    found = {
        "reference_pixels": preprocess.vae_pixels(preprocess.reference_frame(image, H, W, None, inference)),
        "clip_pixels": preprocess.clip_pixels(image, config.image_encoder.image_size, inference),
        "drawn": preprocess.pose_frames(keypoints(T), H, W, None, inference),
    }
    latents = call("vae", lambda vae, x: vae.encode(x).mean, found["reference_pixels"])
    embedding = call("image_encoder", lambda clip, x: clip(x)[:, None], found["clip_pixels"])
    bank = call("reference_unet", lambda net, x, context: net(x, context), latents, embedding)
    both = jax.ShapeDtypeStruct((2, *embedding.shape[1:]), embedding.dtype)
    conditions = call("denoising_unet", lambda unet, *given: unet.condition(*given, guided=True), both, bank)
    poses = preprocess.pose_pixels(found["drawn"], config.pose_guider)
    noise = np.zeros((T, H // config.downscale, W // config.downscale, config.vae.latent_channels), np.float32)
    plan = get_windows(inference.windows, length=inference.window_length, overlap=None).plan(T, 2)
    site = next(iter(bank))
    found |= {
        "reference_latents": latents,
        "embedding": embedding,
        "bank": bank[site],
        "reference_keys": conditions.reference[site][0],
        "pose_features": call("pose_guider", lambda guider, x: guider(x), poses),
        "noise": noise,
        "window_frames": plan.frames,
        "unet_input": noise[plan.frames[0]],
    }
    pose = jax.ShapeDtypeStruct((*plan.frames[0].shape, *found["pose_features"].shape[1:]), jnp.float32)
    found["unet_output"] = call(
        "denoising_unet",
        lambda unet, x, conditions, pose: unet(x, unet.embed_time(jnp.zeros(1)), conditions, pose),
        found["unet_input"], conditions, pose,
    )  # fmt: skip
    found["frames"] = call("vae", lambda vae, x: vae.decode(x), noise)
    return found


def test_an_animation():
    unet, encoder = SMALL_STACK.denoising_unet, SMALL_STACK.image_encoder
    letters = {
        "t": T, "h": H, "w": W, "d": SMALL_STACK.downscale, "c": SMALL_STACK.vae.latent_channels,
        "s": encoder.image_size, "e": unet.cross_attention_dim, "p": unet.block_out_channels[0],
        "n": 2, "l": SMALL_STACK.inference.window_length, "k": 2, "a": unet.block_out_channels[1],
    }  # fmt: skip
    found = animation()
    for name, value in found.items():
        assert value.shape == evaluated(DOORS[name][0], letters), name
    assert found["window_frames"].dtype == np.int32 and found["drawn"].dtype == np.uint8


class Clip:
    """Five black frames."""

    name = "a"

    def __init__(self):
        self.keypoints = keypoints(5)
        self.reference = self

    def frames(self, indices):
        return np.zeros((len(indices), H, W, 3), np.uint8)


def test_a_batch():
    sample = SampleConfig(height=32, width=24, frames="clip", num_frames=3, clip_size=28)
    batch = stack([make_sample(Clip(), sample, np.random.default_rng(seed)) for seed in range(2)])
    for name, value in batch.items():
        assert value.shape == evaluated(DOORS[name][0], {"b": 2, "t": 3, "h": 32, "w": 24, "s": 28}), name
        assert value.dtype == np.uint8
    assert set(batch) | set(animation()) == set(DOORS)


def test_the_numbers_of_stable_diffusion():
    line = PAGE.partition("doors:")[2].partition("\n")[0]
    letters = {name: int(value) for name, value in re.findall(r"(\w)=(\d+)", line)}
    unet, vae, encoder, inference = UNetConfig(), VAEConfig(), CLIPVisionConfig(), InferenceConfig()
    assert (letters["h"], letters["w"], letters["l"]) == (inference.height, inference.width, inference.window_length)
    assert (letters["d"], letters["c"], letters["s"]) == (vae.downscale, vae.latent_channels, encoder.image_size)
    assert (letters["e"], letters["p"]) == (encoder.projection_dim, unet.block_out_channels[0])
    shown = {name: (shape, last) for name, (shape, last) in DOORS.items() if last}
    assert len(shown) > 10
    for name, (shape, last) in shown.items():
        assert str(evaluated(shape, letters)) == last, name


def test_tables_are_seen():
    assert len(DOORS) == PAGE.count("\n| `", PAGE.index("doors:")) == 17
