"""Rules for the parameters of networks of true size, which are never made."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from aa_jax.config import ModelConfig
from aa_jax.models.config import CLIPVisionConfig, Policy, PoseGuiderConfig
from aa_jax.sharding import (
    RULES,
    SMALLEST,
    batch_sharding,
    like_parameters,
    make_mesh,
    parameter_sharding,
    parameter_shardings,
)
from aa_jax.training.config import Lora
from aa_jax.training.lora import init_lora
from aa_jax.training.networks import Networks
from aa_jax.training.start import matches
from configs import sd15


@functools.cache
def shapes():
    return Networks.of(sd15.config(), Policy()).shapes


def mesh(data, fsdp):
    """Only the shape of a mesh counts for rules."""
    return jax.sharding.AbstractMesh((data, fsdp), ("data", "fsdp"))


def spec(key, shape, fsdp=8):
    return parameter_sharding(key, shape, mesh(1, fsdp)).spec


def others():
    """Networks that the paper's model has not."""
    for architecture in ("controlnet", "open"):
        yield ModelConfig(pose_guider=PoseGuiderConfig(architecture=architecture))
    yield ModelConfig(image_encoder=CLIPVisionConfig(num_hidden_layers=1, output="pooler_output"))


def test_every_parameter_has_one_rule():
    found = shapes()
    lora = {key: leaf for key, leaf in found.items() if matches(key, Lora().targets)}
    found = found | jax.eval_shape(lambda: init_lora(lora, 4, jax.random.key(0)))
    for model in others():
        found = found | Networks.of(model, Policy()).shapes
    assert len(lora) > 200
    wrong = [key for key in found if sum(bool(re.fullmatch(pattern, key)) for pattern, _ in RULES) != 1]
    assert not wrong
    assert parameter_shardings(found, mesh(2, 4)).keys() == found.keys()
    used = [pattern for pattern, _ in RULES if any(re.fullmatch(pattern, key) for key in found)]
    assert len(used) == len(RULES)


@pytest.mark.parametrize("key", ["vae.encoder.conv_in.weight", "kernel", "vae.conv.kernel.lora_c", "a.kernel.b"])
@pytest.mark.parametrize("fsdp", [1, 4])
def test_an_unknown_parameter(key, fsdp):
    with pytest.raises(ValueError, match=f"^0 sharding rules match {re.escape(key)}, expected one"):
        spec(key, (256, 256), fsdp)


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("unet.conv.kernel", (3, 3, 320, 640), P(None, None, None, "fsdp")),
        ("unet.to_q.kernel", (320, 640), P(None, "fsdp")),
        ("unet.conv_out.kernel", (3, 3, 1280, 4), P(None, None, "fsdp")),  # outputs do not divide, inputs do
        ("unet.odd.kernel", (8, 8, 1283, 1283), P()),  # taps are never cut
        ("unet.small.kernel", (127, 128), P()),
        ("unet.just.kernel", (128, 128), P(None, "fsdp")),
        ("clip.position_embedding.embedding", (257, 1024), P(None, "fsdp")),
        ("unet.conv.bias", (SMALLEST,), P()),
        ("unet.motion.pe", (128, 1280), P()),
        ("unet.to_q.kernel.lora_a", (32768, 16), P()),
    ],
)
def test_what_is_cut(key, shape, expected):
    assert spec(key, shape) == expected
    assert spec(key, shape, fsdp=1) == P()


def test_most_of_a_model_is_shared():
    """Each of eight devices holds hardly more than an eighth."""
    whole = sum(np.prod(leaf.shape, dtype=np.int64) for leaf in shapes().values())
    each = sum(
        np.prod(sharding.shard_shape(leaf.shape), dtype=np.int64)
        for leaf, sharding in zip(shapes().values(), parameter_shardings(shapes(), mesh(1, 8)).values(), strict=True)
    )
    assert whole / 8 < each < whole / 8 * 1.02


def test_an_optimizer_s_state_lies_as_its_parameters():
    parameters = {"a.kernel": jax.ShapeDtypeStruct((256, 256), np.float32)}
    state = {
        "mu": parameters,
        "row": {"a.kernel": jax.ShapeDtypeStruct((256,), np.float32)},
        "count": jax.ShapeDtypeStruct((), np.int32),
    }
    found = jax.tree.map(lambda sharding: sharding.spec, like_parameters(state, parameters, mesh(1, 4)))
    assert found == {"mu": {"a.kernel": P(None, "fsdp")}, "row": {"a.kernel": P()}, "count": P()}


def test_a_batch_is_cut_over_all_devices():
    assert batch_sharding(mesh(2, 4)).shard_shape((16, 3, 5)) == (2, 3, 5)


@pytest.mark.parametrize(("fsdp", "shape"), [(1, (8, 1)), (2, (4, 2)), (8, (1, 8)), (0, (1, 8))])
def test_mesh(fsdp, shape):
    assert make_mesh(fsdp, devices=jax.devices() * 8).devices.shape == shape


@pytest.mark.parametrize("fsdp", [3, -1, 16])
def test_a_mesh_that_cannot_be(fsdp):
    with pytest.raises(ValueError, match=f"compute.fsdp is {fsdp}, expected a divisor of the number of devices, 8"):
        make_mesh(fsdp, devices=jax.devices() * 8)
