"""Work done part by part is the work done at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aa_jax.models import layers
from aa_jax.models.config import MotionConfig, Policy, UNetConfig
from aa_jax.models.denoising_unet import DenoisingUNet
from aa_jax.models.parts import in_parts
from tests.golden_tools import relative_error

FRAMES = 5


@pytest.mark.parametrize("size", [1, 2, 3, 7, None])
def test_in_parts(size):
    """Whatever the size of a part, and with more rows in the result."""
    x, y = jnp.arange(24.0).reshape(2, 4, 3), jnp.ones((1, 4, 2))
    seen = []

    def function(x, y):
        seen.append(x.shape[1])
        return jnp.concatenate([x, -x]) * y.sum(-1)[..., None]

    found = in_parts(function, x, y, axis=1, size=size)
    np.testing.assert_array_equal(found, jnp.concatenate([x, -x]) * 2)
    assert set(seen) == {min(size or 4, 4)}


@pytest.fixture(scope="module", params=[False, True], ids=["frames alone", "norms over frames"])
def network(request):
    config = UNetConfig(
        block_out_channels=(32, 64),
        attention_levels=(True, False),
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=2,
        motion=MotionConfig(num_attention_heads=2, max_length=8),
        group_norm_over_frames=request.param,
    )
    unet = DenoisingUNet(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    # Random weights throughout: temporal layers start as nothing.
    state = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.05, leaf.shape), leaf.dtype), nnx.state(unet))
    nnx.update(unet, state)
    return unet


def evaluate(network, layer_frames, guided, num_frames=None, size=(7, 6)):
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    sample, context = draw(2, FRAMES, *size, 4), draw(2 if guided else 1, 1, 16)
    bank = {name: draw(1, 10, site.norm.scale.shape[0]) for name, site in network.sites()}
    graph, state = nnx.split(network)

    @jax.jit
    def run(state):
        unet = nnx.merge(graph, state)
        conditions = unet.condition(context, bank, guided=guided)
        conditions = dataclasses.replace(conditions, layer_frames=layer_frames, num_frames=num_frames)
        return unet(sample, unet.embed_time(jnp.array([3.0])), conditions, jnp.zeros((1, 1, 1, 1, 1)))

    return run, state


@pytest.mark.parametrize("guided", [False, True])
def test_some_frames_at_a_time(network, guided):
    run, state = evaluate(network, None, guided)
    expected = run(state)
    for layer_frames in (2, FRAMES):
        run, _ = evaluate(network, layer_frames, guided)
        assert relative_error(run(state), expected) < 2e-6


def test_fewer_frames_take_less_memory(network, monkeypatch):
    """Where the ResNet blocks' norms are not over all frames, and the feed-forward does not save as much by itself."""
    monkeypatch.setattr(layers, "CPU_STEP_BYTES", 1 << 40)
    memory = []
    for layer_frames in (None, 1):
        run, state = evaluate(network, layer_frames, True, size=(32, 24))
        memory.append(run.lower(state).compile().memory_analysis().temp_size_in_bytes)
    assert memory[1] < (0.5 if network.frames_alone else 1) * memory[0]


def test_padding_stays_unseen(network):
    """Frames that are not to be seen are not seen part by part either."""
    seen = [evaluate(network, layer_frames, True, jnp.int32(3)) for layer_frames in (None, 2)]
    whole, parts = (run(state) for run, state in seen)
    assert relative_error(parts[:, :3], whole[:, :3]) < 2e-6
    run, state = evaluate(network, None, True)
    assert relative_error(run(state)[:, :3], whole[:, :3]) > 1e-3


def test_a_feed_forward_goes_through_the_caches(monkeypatch):
    """Some tokens at a time on a CPU, with the result and the gradient of all at once."""
    network = layers.FeedForward(16, policy=Policy(), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 10, 16))
    seen = []
    monkeypatch.setattr(
        layers, "in_parts", lambda *args, size, **kwargs: seen.append(size) or in_parts(*args, size=size, **kwargs)
    )

    def result_and_gradient():
        return jax.value_and_grad(lambda x: jnp.sum(network(x) ** 2))(x)

    whole = result_and_gradient()
    monkeypatch.setattr(layers, "CPU_STEP_BYTES", 2 * 4 * 128 * 4)
    some = result_and_gradient()
    assert seen == [10, 4]
    for one, other in zip(some, whole, strict=True):
        assert relative_error(one, other) < 1e-6
