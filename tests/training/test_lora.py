"""Low-rank changes against their formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.training.lora import init_lora, merge_lora

SHAPES = {"unet.to_q.kernel": (6, 5), "unet.conv.kernel": (3, 3, 4, 7)}
RANK = 2


def changes(key=0):
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
    return init_lora(shapes, RANK, jax.random.key(key))


def weights():
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
    return params | {"unet.to_q.bias": jnp.ones(5)}


def test_at_first_nothing_is_changed():
    params = weights()
    merged = merge_lora(params | changes())
    assert merged.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(merged[name], value)


def test_merged_kernels_are_kernel_plus_a_b():
    params, lora = weights(), changes()
    rng = np.random.default_rng(1)
    lora = {
        key: jnp.asarray(rng.normal(size=value.shape), jnp.float32) if key.endswith("lora_b") else value
        for key, value in lora.items()
    }
    merged = merge_lora(params | lora)
    a, b = (np.asarray(lora[f"unet.to_q.kernel.lora_{side}"], np.float64) for side in "ab")
    np.testing.assert_allclose(merged["unet.to_q.kernel"], params["unet.to_q.kernel"] + a @ b, rtol=1e-5, atol=1e-6)
    # A convolution's change is one of lower rank after another: to `RANK` channels with its taps, then 1x1.
    a, b = (lora[f"unet.conv.kernel.lora_{side}"] for side in "ab")
    image = jnp.asarray(rng.normal(size=(1, 5, 5, 4)), jnp.float32)

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    change = convolve(convolve(image, a.reshape(3, 3, 4, RANK)), b[None, None])
    found = convolve(image, merged["unet.conv.kernel"]) - convolve(image, params["unet.conv.kernel"])
    np.testing.assert_allclose(found, change, atol=1e-4)


def test_a_frozen_kernel_keeps_its_dtype():
    params = {name: value.astype(jnp.bfloat16) for name, value in weights().items()}
    merged = merge_lora(params | changes())
    assert {value.dtype for value in merged.values()} == {jnp.dtype(jnp.bfloat16)}


def test_first_values():
    shapes = {name: jax.ShapeDtypeStruct((64, 32), jnp.float32) for name in ("a.kernel", "b.kernel")}
    params = init_lora(shapes, 16, jax.random.key(0))
    assert float(params["a.kernel.lora_a"].std()) == pytest.approx(16**-0.5, rel=0.1)
    assert not np.array_equal(params["a.kernel.lora_a"], params["b.kernel.lora_a"])
    assert not np.array_equal(params["a.kernel.lora_a"], init_lora(shapes, 16, jax.random.key(1))["a.kernel.lora_a"])
    assert not any(params[f"{name}.lora_b"].any() for name in shapes)


def test_shapes_alone():
    found = jax.eval_shape(changes)
    assert {key: leaf.shape for key, leaf in found.items()} == {
        "unet.to_q.kernel.lora_a": (6, RANK),
        "unet.to_q.kernel.lora_b": (RANK, 5),
        "unet.conv.kernel.lora_a": (36, RANK),
        "unet.conv.kernel.lora_b": (RANK, 7),
    }


def test_only_kernels():
    with pytest.raises(ValueError, match="lora.targets fits unet.to_q.bias"):
        init_lora({"unet.to_q.bias": jax.ShapeDtypeStruct((5,), jnp.float32)}, 1, jax.random.key(0))
