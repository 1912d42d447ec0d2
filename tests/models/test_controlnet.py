"""ControlNet against diffusers' own, and what becomes of its residuals in the denoising UNet."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.models.config import UNetConfig
from aa_jax.models.controlnet import without
from aa_jax.network_tensors import network_tensors
from aa_jax.weights import build_network
from tests.golden_tools import channels_first, channels_last, relative_error
from tests.models.test_economies import noise, random_network
from tools.convert_weights.naming import from_torch, to_torch, torch_key

UNET = UNetConfig(
    block_out_channels=(32, 64), attention_levels=(True, False), layers_per_block=2, cross_attention_dim=16,
    num_attention_heads=4, norm_num_groups=8,
)  # fmt: skip
TOLERANCE = 1e-5


def tensor(array):
    return pytest.importorskip("torch").from_numpy(np.array(array))


@pytest.fixture(scope="module")
def controlnet():
    return random_network("controlnet", UNET)


@pytest.fixture(scope="module")
def denoiser():
    return random_network("denoising_unet", UNET)


def test_it_equals_diffusers(controlnet):
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")

    class Hint(torch.nn.Module):
        """Reads latents in place of an image."""

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 32, 3, padding=1)

        def forward(self, latents):
            return self.conv(latents)

    theirs = diffusers.ControlNetModel(
        block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), layers_per_block=2,
        attention_head_dim=4, cross_attention_dim=16, norm_num_groups=8,
    )  # fmt: skip
    theirs.controlnet_cond_embedding = Hint()
    state = {torch_key(key): to_torch(key, np.asarray(value)) for key, value in network_tensors(controlnet).items()}
    for leaf in ("weight", "bias"):
        state[f"controlnet_cond_embedding.conv.{leaf}"] = state.pop(f"controlnet_cond_embedding.{leaf}")
    theirs.load_state_dict({key: tensor(value) for key, value in state.items()})

    sample, reference, context = noise(2, 8, 6, 4), noise(2, 8, 6, 4, seed=1), noise(2, 1, 16, seed=2)
    with torch.no_grad():
        down, mid = theirs(
            tensor(channels_first(sample)), 321, tensor(context),
            tensor(channels_first(reference)), return_dict=False,
        )  # fmt: skip
    ours = controlnet(
        sample[:, None], controlnet.embed_time(jnp.array([321.0])), controlnet.control(reference, context)
    )
    assert len(ours) == len(down) + 1 == 7
    for mine, other in zip(ours, (*down, mid), strict=True):
        assert relative_error(mine[:, 0], channels_last(other.numpy())) < TOLERANCE


def test_residuals_in_the_denoising_unet_equal_diffusers(denoiser):
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")
    theirs = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=2, attention_head_dim=4,
        cross_attention_dim=16, norm_num_groups=8,
    )  # fmt: skip
    state = {torch_key(key): to_torch(key, np.asarray(value)) for key, value in network_tensors(denoiser).items()}
    theirs.load_state_dict({key: tensor(value) for key, value in state.items()})
    sample, context = noise(2, 8, 6, 4), noise(2, 1, 16, seed=2)
    shapes = [(2, 1, 8, 6, 32)] * 3 + [(2, 1, 4, 3, 32)] + [(2, 1, 4, 3, 64)] * 3
    residuals = [noise(*shape, seed=index) for index, shape in enumerate(shapes)]
    *down, mid = [tensor(channels_first(residual[:, 0])) for residual in residuals]
    with torch.no_grad():
        expected = theirs(
            tensor(channels_first(sample)), 321, tensor(context),
            down_block_additional_residuals=down, mid_block_additional_residual=mid,
        ).sample  # fmt: skip
    time = denoiser.embed_time(jnp.array([321.0]))
    ours = denoiser(sample[:, None], time, denoiser.condition(context), residuals=residuals)
    assert relative_error(ours[:, 0], channels_last(expected.numpy())) < TOLERANCE


def test_an_untrained_one_changes_nothing(denoiser):
    fresh = build_network("controlnet", UNET, zeros_where_training_starts(random_network("controlnet", UNET)))
    sample, context = noise(2, 1, 8, 6, 4), noise(2, 1, 16, seed=2)
    residuals = fresh(sample, fresh.embed_time(jnp.array([5.0])), fresh.control(noise(2, 8, 6, 4), context))
    assert all(not np.any(residual) for residual in residuals)


def zeros_where_training_starts(network):
    return {
        key: np.zeros(value.shape, np.float32) if key.startswith("controlnet_") else np.asarray(value)
        for key, value in network_tensors(network).items()
    }


def test_guidance_leaves_the_unconditional_half_alone(controlnet, denoiser):
    """A guided evaluation is the one without reference and residuals, and the one with both, side by side."""
    sample, reference, context = noise(2, 3, 8, 6, 4), noise(1, 8, 6, 4, seed=1), noise(1, 1, 16, seed=2)
    time, control = controlnet.embed_time(jnp.array([321.0])), controlnet.control(reference, context)
    residuals = controlnet(sample, time, control)
    time, empty = denoiser.embed_time(jnp.array([321.0])), jnp.zeros_like(context)
    guided = denoiser(
        sample, time, denoiser.condition(jnp.concatenate([empty, context]), guided=True), residuals=residuals
    )
    alone = denoiser(sample, time, denoiser.condition(empty))
    seen = denoiser(sample, time, denoiser.condition(context), residuals=residuals)
    assert relative_error(guided, jnp.concatenate([alone, seen])) < TOLERANCE
    assert relative_error(alone, seen) > 0.01


def test_dropped_rows(controlnet):
    """Consecutive rows of the sample share a reference, and its being dropped."""
    residuals = [noise(4, 1, 3, 2, 5)]
    (left,) = without(residuals, jnp.array([True, False]))
    assert not np.any(left[:2]) and np.array_equal(left[2:], residuals[0][2:])
    sample, references, context = noise(4, 1, 8, 6, 4), noise(2, 8, 6, 4, seed=1), noise(2, 1, 16, seed=2)
    time = controlnet.embed_time(jnp.array([321.0]))
    together = controlnet(sample, time, controlnet.control(references, context))
    for row in range(2):
        control = controlnet.control(references[row : row + 1], context[row : row + 1])
        apart = controlnet(sample[2 * row : 2 * row + 2], time, control)
        for mine, other in zip(together, apart, strict=True):
            assert relative_error(mine[2 * row : 2 * row + 2], other) < TOLERANCE


def test_names_have_a_way_back():
    network = random_network("controlnet", dataclasses.replace(UNET, layers_per_block=1))
    for key, value in network_tensors(network).items():
        assert np.array_equal(from_torch(key, to_torch(key, np.asarray(value))), value)
