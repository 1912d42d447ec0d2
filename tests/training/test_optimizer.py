"""Learning rates by their formula, AdamW and Muon against PyTorch's, Adafactor's state."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aa_jax.training.config import OptimizerConfig
from aa_jax.training.muon import orthogonalize
from aa_jax.training.optimizer import learning_rate, make_optimizer
from aa_jax.training.plan import bytes_per_device

STEPS = 100


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, 0.1),
        ("constant", 4, 0.5),
        ("constant", 9, 1.0),
        ("constant", 99, 1.0),
        ("cosine", 0, 0.1),
        ("cosine", 9, 1.0),
        ("cosine", 10, 1.0),
        ("cosine", 40, 0.75),  # a third of the way
        ("cosine", 55, 0.5),
        ("cosine", 99, (1 + math.cos(math.pi * 89 / 90)) / 2),
        ("cosine", 100, 0.0),
    ],
)
def test_learning_rate(schedule, step, expected):
    config = OptimizerConfig(learning_rate=2e-4, schedule=schedule, warmup_steps=10)
    assert float(learning_rate(config, STEPS)(step)) == pytest.approx(2e-4 * expected, rel=1e-5, abs=1e-10)


@pytest.mark.parametrize(("warmup", "expected"), [(0, [1, 1]), (1, [1, 1]), (2, [0.5, 1])])
def test_short_warm_up(warmup, expected):
    rate = learning_rate(OptimizerConfig(learning_rate=1.0, warmup_steps=warmup), STEPS)
    np.testing.assert_allclose([float(rate(step)) for step in (0, 1)], expected, rtol=1e-6)


def run(config, params, gradients):
    optimizer = make_optimizer(config, STEPS)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_adamw_is_torch_s(clip_norm):
    config = OptimizerConfig(
        learning_rate=1e-2, warmup_steps=3, b1=0.8, b2=0.95, epsilon=1e-6, weight_decay=0.1, clip_norm=clip_norm
    )
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,)}
    start, *gradients = [
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(6)
    ]
    found = run(config, jax.tree.map(jnp.asarray, start), gradients)

    parameters = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    for step, gradient in enumerate(gradients):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradient[name])
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip_norm)
        optimizer.param_groups[0]["lr"] = 1e-2 * min((step + 1) / 3, 1)
        optimizer.step()
    for name, parameter in parameters.items():
        np.testing.assert_allclose(found[name], parameter.detach(), atol=1e-6)


def test_first_moment_in_bfloat16():
    params = {"kernel": jnp.ones((8, 8))}
    states = {
        dtype: jax.eval_shape(make_optimizer(OptimizerConfig(moment_dtype=dtype), STEPS).init, params)
        for dtype in ("float32", "bfloat16")
    }
    assert bytes_per_device(states["float32"]) - bytes_per_device(states["bfloat16"]) == 8 * 8 * 2


def test_adafactor_keeps_two_vectors_of_a_matrix():
    params = {
        "attention": jax.ShapeDtypeStruct((640, 640), jnp.float32),
        "convolution": jax.ShapeDtypeStruct((3, 3, 320, 640), jnp.float32),
    }
    size = {
        name: bytes_per_device(jax.eval_shape(make_optimizer(OptimizerConfig(name=name), STEPS).init, params))
        for name in ("adamw", "adafactor")
    }
    numbers = 640 * 640 + 9 * 320 * 640
    assert size["adamw"] >= 2 * 4 * numbers
    assert size["adafactor"] < 4 * numbers / 50


def test_adafactor_s_first_step_is_a_sign():
    """Of an unfactored vector the second moment is the square of the first gradient."""
    gradient = np.asarray([3.0, -0.5, 1e-3], np.float32)
    config = OptimizerConfig(name="adafactor", learning_rate=0.1, weight_decay=0.0, clip_norm=None)
    found = run(config, {"bias": jnp.zeros(3)}, [{"bias": gradient}])
    np.testing.assert_allclose(found["bias"], -0.1 * np.sign(gradient), rtol=1e-5)


def test_muon_s_first_step_is_torch_s():
    """PyTorch's, in bfloat16, is given matrices from inputs to outputs; vectors are AdamW's with Nesterov's momentum,
    whose first step is a sign too, but larger."""
    rng = np.random.default_rng(0)
    shapes = {"ff.kernel": (6, 4), "conv.kernel": (3, 3, 2, 5), "conv.bias": (5,), "ff.kernel.lora_a": (6, 2)}
    gradients = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = OptimizerConfig(name="muon", learning_rate=0.1, b1=0.95, weight_decay=0.0, clip_norm=None)
    found = run(config, {name: jnp.zeros(shape) for name, shape in shapes.items()}, [gradients])
    for name, gradient in gradients.items():
        if gradient.ndim == 1:
            np.testing.assert_allclose(found[name], -0.1 * (1 + 0.95 / 1.95) * np.sign(gradient), rtol=1e-4)
            continue
        matrix = gradient.reshape(-1, gradient.shape[-1])
        parameter = torch.nn.Parameter(torch.zeros(matrix.shape))
        parameter.grad = torch.tensor(matrix)
        torch.optim.Muon([parameter], lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
        theirs = parameter.detach().numpy().reshape(gradient.shape)
        assert np.linalg.norm(found[name] - theirs) < 0.03 * np.linalg.norm(theirs), name


def test_muon_together_is_optax_s_one_by_one():
    """Matrices that are wide and high, some of one shape."""
    rng = np.random.default_rng(0)
    shapes = [(6, 4), (4, 6), (3, 3, 2, 5), (6, 4), (2, 2)]
    updates = {f"{i}.kernel": jnp.asarray(rng.normal(size=shape), jnp.float32) for i, shape in enumerate(shapes)}
    theirs = optax.contrib.muon(
        -1.0, beta=0.0, nesterov=False, weight_decay=0.0, consistent_rms=0.2,
        muon_weight_dimension_numbers={
            key: optax.contrib.MuonDimensionNumbers(tuple(range(update.ndim - 1)), update.ndim - 1)
            for key, update in updates.items()
        },
    )  # fmt: skip
    expected, _ = theirs.update(updates, theirs.init(updates), updates)
    found = orthogonalize(updates)
    for key in updates:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-6)


SHARED = """
import jax, numpy as np
from aa_jax.sharding import make_mesh
from aa_jax.training.muon import orthogonalize

rng = np.random.default_rng(0)
updates = {str(i): rng.normal(size=shape).astype(np.float32) for i, shape in enumerate([(6, 4), (4, 6), (8, 8)] * 3)}
expected, mesh = orthogonalize(updates), make_mesh(fsdp=2)
assert mesh.size == 4
found = jax.jit(lambda updates: orthogonalize(updates, mesh))(updates)
for key, value in expected.items():
    np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-6)
compiled = jax.jit(lambda updates: orthogonalize(updates, mesh)).lower(updates).compile()
alone = jax.jit(orthogonalize).lower(updates).compile()
print(compiled.cost_analysis()["flops"] / alone.cost_analysis()["flops"])
"""


def test_muon_s_work_is_shared_by_the_devices():
    """Six matrices of one shape and three of another, on four devices: two and one for each, and the same result."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", SHARED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.5


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_weight_decay_is_times_the_learning_rate(name):
    config = OptimizerConfig(name=name, learning_rate=1e-2, weight_decay=0.1)
    found = run(config, {"kernel": jnp.full((4, 4), 2.0)}, [{"kernel": jnp.zeros((4, 4))}] * 2)
    np.testing.assert_allclose(found["kernel"], 2 * (1 - 1e-3) ** 2, rtol=1e-6)
