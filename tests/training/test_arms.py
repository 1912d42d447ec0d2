"""The paper's other ways to see a reference (section 4.4): trained and run by the same code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax import preprocess
from aa_jax.animator import Animator
from aa_jax.config import APPEARANCE, ModelConfig
from aa_jax.diffusion.samplers import DDIM
from aa_jax.diffusion.windows import Uniform
from aa_jax.models.config import Policy
from aa_jax.programs import Programs
from aa_jax.training.networks import Networks
from aa_jax.training.objective import DenoisingLoss, Objective
from aa_jax.weights import build_network
from tests.training.test_objective import HEIGHT, WIDTH, batch, keys
from tests.training.tiny import UNET, model, random_weights

WHOLE = dataclasses.replace(model(motion=False), controlnet=UNET)
ARMS = {
    "clip": ("image_encoder",),
    "controlnet": ("controlnet",),
    "clip and controlnet": ("image_encoder", "controlnet"),
}


@pytest.fixture(scope="module", params=ARMS)
def arm(request):
    """A loss with weights of which none are zero."""
    config = dataclasses.replace(WHOLE, **{name: None for name in APPEARANCE if name not in ARMS[request.param]})
    networks = Networks.of(config, Policy())
    params = {key: value.astype(np.float32) for key, value in random_weights(networks).items()}
    return DenoisingLoss(networks=networks, model=config, objective=Objective(), clip=False), params


def test_training_predicts_what_sampling_does(arm):
    """The first step of the sampler and the objective, on the same noise."""
    loss, params = arm
    data, noise = batch(rows=1), jax.random.normal(jax.random.key(3), (2, HEIGHT // 8, WIDTH // 8, 4))
    times = jnp.full((1, 2), 999)
    expected = jax.jit(loss._predict)(params, data, noise[None], times, jnp.array([False]))[0]

    programs = Programs(loss.model, dict(loss.networks.graphs))
    weights = {name: loss.networks.state(name, params) for name in loss.networks.graphs}
    pixels = preprocess.vae_pixels(data["reference"][0])
    shown = preprocess.normalise_clip(data["whole_reference"][0])[None]
    conditions = programs.encode_reference(weights, pixels, shown, guided=False)
    _, trajectory = programs.denoise(
        weights, noise, programs.pose_features(weights, data["pose"][0], 2), conditions,
        Uniform(length=2, overlap=0).plan(2, 1), None, jax.random.key(0), sampler=DDIM(),
        schedule=loss.model.schedule, num_inference_steps=1, window_batch=None, return_trajectory=True,
    )  # fmt: skip
    np.testing.assert_allclose(trajectory.predictions[0], expected, rtol=2e-4, atol=2e-5)


def test_every_part_learns_and_the_reference_counts_unless_it_is_dropped(arm):
    loss, params = arm
    data, other = batch(), batch(seed=1)
    other |= {"target": data["target"], "pose": data["pose"]}

    def cost(dropout):
        changed = dataclasses.replace(loss, objective=Objective(condition_dropout=dropout))
        return lambda params, data: changed(params, data, keys(), keys()[0]).total.mean()

    with_gradient, dropped = jax.jit(jax.value_and_grad(cost(0.0))), jax.jit(cost(1 - 1e-7))
    found, gradients = with_gradient(params, data)
    for name in (*(part for part in APPEARANCE if getattr(loss.model, part) is not None), "denoising_unet"):
        moved = [bool(np.any(value)) for key, value in gradients.items() if key.startswith(f"{name}.")]
        assert np.mean(moved) > 0.5, name
    assert abs(with_gradient(params, other)[0] - found) > 1e-3 * found
    np.testing.assert_allclose(dropped(params, other), dropped(params, data), rtol=1e-6)


def test_animating_without_an_image_encoder(arm):
    """What the model has not, it does not ask for; what it lacks altogether is told."""
    loss, params = arm
    if loss.model.image_encoder is not None:
        with pytest.raises(ValueError, match="has no reference_unet or controlnet or image_encoder, which animating"):
            Animator(dataclasses.replace(loss.model, **dict.fromkeys(APPEARANCE)), {})
        return
    networks = {
        name: build_network(name, getattr(loss.model, name), of_network(params, name)) for name in loss.model.networks
    }
    animator = Animator(loss.model, networks)
    rng = np.random.default_rng(0)
    pose = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    options = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 1, "output_type": "np"}
    one, other = (animator(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), pose, **options) for _ in range(2))
    assert one.shape == (2, HEIGHT, WIDTH, 3) and np.abs(one - other).max() > 1e-3


def of_network(params, name):
    return {key.removeprefix(f"{name}."): value for key, value in params.items() if key.startswith(f"{name}.")}


def test_networks_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"controlnet has layers_per_block 2, but denoising_unet 1"):
        dataclasses.replace(WHOLE, controlnet=dataclasses.replace(UNET, layers_per_block=2))
    assert ModelConfig.from_dict(WHOLE.to_dict()) == WHOLE
