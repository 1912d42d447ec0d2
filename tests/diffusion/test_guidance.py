"""Guidance against its formulas in PyTorch, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.diffusion import Guidance

SHAPE = (3, 4, 5, 2)


def predictions():
    rng = np.random.default_rng(0)
    unconditional, conditional = rng.standard_normal((2, *SHAPE), dtype=np.float32)
    return unconditional, 0.3 * unconditional + 2 * conditional + 0.1


def test_formula():
    unconditional, conditional = predictions()
    guided = Guidance(scale=3.5)(jnp.asarray(unconditional), jnp.asarray(conditional))
    np.testing.assert_allclose(guided, 3.5 * conditional - 2.5 * unconditional, atol=1e-5)


def test_scale_one_is_the_conditional_prediction():
    unconditional, conditional = predictions()
    np.testing.assert_allclose(Guidance(scale=1.0)(unconditional, conditional), conditional, atol=1e-6)


@pytest.mark.parametrize("rescale", [0.0, 0.3, 0.7, 1.0])
def test_rescale_equals_diffusers(rescale):
    """diffusers takes statistics over all axes but the batch: a clip of (c, t, h, w) is one element of a batch."""
    torch = pytest.importorskip("torch")
    guider_utils = pytest.importorskip("diffusers.guiders.guider_utils")
    unconditional, conditional = predictions()
    u, c = (torch.from_numpy(np.moveaxis(x, -1, 0)[None].copy()) for x in (unconditional, conditional))
    expected = guider_utils.rescale_noise_cfg(u + 7.5 * (c - u), c, guidance_rescale=rescale)
    guided = Guidance(scale=7.5, rescale=rescale)(jnp.asarray(unconditional), jnp.asarray(conditional))
    np.testing.assert_allclose(guided, np.moveaxis(expected[0].numpy(), 0, -1), rtol=1e-5, atol=1e-5)


def test_full_rescale_has_the_standard_deviation_of_the_conditional_prediction():
    unconditional, conditional = predictions()
    guided = Guidance(scale=7.5, rescale=1.0)(jnp.asarray(unconditional), jnp.asarray(conditional))
    np.testing.assert_allclose(jnp.std(guided), np.std(conditional), rtol=1e-5)


def test_no_rescale_of_a_constant_prediction_is_finite():
    zeros = jnp.zeros(SHAPE)
    assert jnp.all(Guidance()(zeros, zeros) == 0)


@pytest.mark.parametrize(("scale", "enabled"), [(0.0, False), (1.0, False), (1.01, True), (3.5, True)])
def test_enabled_above_one(scale, enabled):
    assert Guidance(scale=scale).enabled is enabled


@pytest.mark.parametrize(
    ("interval", "steps", "guided"),
    [
        ((0.0, 1.0), 5, [0, 1, 2, 3, 4]),
        ((0.0, 0.5), 4, [0, 1]),
        ((0.5, 1.0), 4, [2, 3]),
        ((0.2, 0.8), 10, [2, 3, 4, 5, 6, 7]),
        ((0.15, 0.85), 10, [2, 3, 4, 5, 6, 7]),
        ((0.3, 0.7), 30, list(range(9, 21))),
    ],
)
def test_interval(interval, steps, guided):
    mask = Guidance(interval=interval).guided_steps(steps)
    assert mask.shape == (steps,) and list(np.flatnonzero(mask)) == guided


def test_interval_without_a_step():
    with pytest.raises(ValueError, match=r"interval \(0.1, 0.2\) holds none of 4 steps"):
        Guidance(interval=(0.1, 0.2)).guided_steps(4)


def test_scale_is_traced_and_the_rest_is_static():
    traces = []

    @jax.jit
    def guide(guidance, unconditional, conditional):
        traces.append(guidance)
        return guidance(unconditional, conditional)

    unconditional, conditional = predictions()
    for scale in (2.0, 3.5, 7):
        guided = guide(Guidance(scale=scale), unconditional, conditional)
        np.testing.assert_allclose(guided, unconditional + scale * (conditional - unconditional), rtol=1e-5, atol=1e-5)
    floats = len(traces)
    assert floats <= 2  # An int is another type than a float.
    guide(Guidance(scale=2.0, rescale=0.5), unconditional, conditional)
    assert len(traces) == floats + 1
    assert traces[-1].rescale == 0.5 and traces[-1].interval == (0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -1.0}, "scale is -1.0, expected a finite number, 0 or more"),
        ({"scale": float("nan")}, "scale is nan, expected a finite number"),
        ({"rescale": 1.1}, "rescale is 1.1, expected 0 to 1"),
        ({"interval": (0.5, 0.5)}, r"interval is \(0.5, 0.5\), expected \(start, end\)"),
        ({"interval": (-0.1, 0.5)}, "expected"),
        ({"interval": [0.0, 1.0]}, "expected"),
        ({"interval": (0.1, 1.5)}, "expected"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**options)
