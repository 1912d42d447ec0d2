"""Initial weights from tiny model folders of every kind."""

import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.config import ModelConfig
from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.models.config import Policy
from aa_jax.training import start
from aa_jax.training.config import ComputeConfig, DataConfig, Start, TrainConfig
from aa_jax.training.networks import Networks, random_params
from aa_jax.training.start import (
    Source,
    check_frozen,
    choose_trained,
    describe_sources,
    find_sources,
    load_params,
    matches,
)
from aa_jax.weights import expected_tensors, open_tensors, save_model
from tests.training.tiny import MOTION, UNET, model

STAGE1, STAGE2 = model(motion=False), model(motion=True)
FIRST, SECOND = ("reference_unet.*", "denoising_unet.*", "pose_guider.*"), ("denoising_unet.*.motion_modules.*",)


def write(folder, config):
    """A model folder whose values are of its name."""
    networks = {}
    for name in config.networks:
        shapes = expected_tensors(name, getattr(config, name))
        rng = np.random.default_rng(zlib.crc32(f"{folder.name} {name}".encode()))
        networks[name] = {key: rng.normal(size=leaf.shape).astype(np.float32) for key, leaf in shapes.items()}
    save_model(folder, config, networks)
    return str(folder)


def motion_module(**changes):
    unet = dataclasses.replace(UNET, motion=dataclasses.replace(MOTION, **changes))
    return ModelConfig(family="animatediff", motion_module=unet)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    configs = {
        "stage1": STAGE1,
        "stage2": STAGE2,
        "sd": ModelConfig(family="sd", unet=UNET, vae=STAGE1.vae, image_encoder=STAGE1.image_encoder),
        "v1": motion_module(max_length=6, mid_block=False),
        "v2": motion_module(max_length=16),
        "wide": ModelConfig(family="sd", unet=dataclasses.replace(UNET, cross_attention_dim=32)),
        "deep": ModelConfig(family="sd", unet=dataclasses.replace(UNET, layers_per_block=2)),
    }
    return {name: write(root / name, config) for name, config in configs.items()}


@functools.cache
def networks(config):
    return Networks.of(config, Policy())


def sources_of(config, **folders):
    return find_sources(config, Start(**folders), networks(config))


def run_config(config=STAGE1, trains=FIRST, *, seed=0, frozen_dtype="float32", **folders):
    frames = {"frames": "clip", "num_frames": 4} if config.denoising_unet.motion else {}
    return TrainConfig(
        model=config,
        trains=trains,
        start=Start(**folders),
        data=DataConfig(
            source=SourceConfig(kind="synthetic"), sample=SampleConfig(height=64, width=48, clip_size=28, **frames)
        ),
        compute=ComputeConfig(frozen_dtype=frozen_dtype),
        batch_size=1,
        steps=1,
        seed=seed,
    )


def load(config):
    """The run's first weights, on the host."""
    sources = find_sources(config.model, config.start, networks(config.model))
    trained = choose_trained(config, networks(config.model))
    return load_params(config, sources, trained, lambda key, value: np.asarray(value))


def assert_from(params, name, folder, part=None, *, only=None):
    """The parameters of a network are the folder's tensors of `part`, all that have `only` in their names."""
    stored = open_tensors(folder, part or name)
    keys = [key for key in networks(STAGE2).variables if key.startswith(f"{name}.") and key in params]
    keys = [key for key in keys if only is None or only in key]
    assert keys
    for key in keys:
        np.testing.assert_array_equal(params[key], np.asarray(stored[key.removeprefix(f"{name}.")]), err_msg=key)


def test_everything_from_one_model(folders):
    config = run_config(STAGE2, SECOND, model=folders["stage2"])
    params = load(config)
    assert params.keys() == networks(STAGE2).variables.keys()
    for name in STAGE2.networks:
        assert_from(params, name, folders["stage2"])


def test_a_folder_of_its_own_comes_before_the_model(folders, tmp_path):
    other = write(tmp_path / "other", STAGE1)
    params = load(run_config(model=folders["stage1"], reference_unet=other, vae=other))
    for name in STAGE1.networks:
        assert_from(params, name, other if name in ("reference_unet", "vae") else folders["stage1"])
    # Then the model is not needed.
    each = {name: other for name in STAGE1.networks}
    assert all(source.folder == other for source in sources_of(STAGE1, **each).values())


@pytest.mark.parametrize("fields", [("model",), ("denoising_unet", "reference_unet", "vae", "image_encoder")])
def test_stable_diffusion_s_unet_fills_both(folders, fields):
    config = run_config(**{name: folders["sd"] for name in fields})
    params = load(config)
    for name in ("denoising_unet", "reference_unet"):
        assert_from(params, name, folders["sd"], "unet")
    for name in ("vae", "image_encoder"):
        assert_from(params, name, folders["sd"])
    last = [key for key in params if key.startswith("denoising_unet.conv_") and "out" in key]
    assert len(last) == 4 and not any(key.replace("denoising", "reference") in params for key in last)
    # The pose guider starts anew, and says nothing at first (section 4.1).
    assert not params["pose_guider.conv_out.kernel"].any() and params["pose_guider.conv_in.kernel"].any()


def test_a_controlnet_starts_as_the_first_half_of_stable_diffusion(folders):
    config = dataclasses.replace(STAGE1, controlnet=UNET)
    sources = sources_of(config, model=folders["sd"])
    stored = open_tensors(folders["sd"], "unet")
    mine = {key.removeprefix("controlnet."): source for key, source in sources.items() if key.startswith("controlnet.")}
    new = {key for key, source in mine.items() if source.tensor is None}
    assert new and all(key.startswith("controlnet_") for key in new) and len(mine) > 2 * len(new)
    for key in mine.keys() - new:
        np.testing.assert_array_equal(np.asarray(mine[key].tensor), np.asarray(stored[key]))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_temporal_layers_of_animatediff(folders, version):
    params = load(run_config(STAGE2, SECOND, model=folders["stage1"], motion_module=folders[version]))
    stored = open_tensors(folders[version], "motion_module")
    motion = {key.removeprefix("denoising_unet."): value for key, value in params.items() if ".motion_modules." in key}
    own = {key for key in motion if key.endswith(".pe") or version == "v1" and key.startswith("mid_block.")}
    assert own and own != motion.keys()
    for key in motion.keys() - own:
        np.testing.assert_array_equal(motion[key], np.asarray(stored[key]), err_msg=key)
    tables = [value for key, value in motion.items() if key.endswith(".pe")]
    for table in tables:
        assert table.shape[-2:] in ((8, 16), (8, 32))
        np.testing.assert_allclose(table.reshape(8, -1)[:, 0], np.sin(np.arange(8)), atol=1e-6)
    anew = [key for key in own if key.endswith(".proj_out.kernel")]
    assert len(anew) == (version == "v1") and not any(motion[key].any() for key in anew)
    for key, value in open_tensors(folders["stage1"], "denoising_unet").items():
        np.testing.assert_array_equal(params[f"denoising_unet.{key}"], np.asarray(value))


def test_stage_2_starts_from_stage_1(folders):
    params = load(run_config(STAGE2, SECOND, model=folders["stage1"]))
    for key, value in open_tensors(folders["stage1"], "denoising_unet").items():
        np.testing.assert_array_equal(params[f"denoising_unet.{key}"], np.asarray(value))
    motion = {key: value for key, value in params.items() if ".motion_modules." in key}
    last = [key for key in motion if ".proj_out." in key]
    assert len(motion) + len(open_tensors(folders["stage1"], "denoising_unet")) == sum(
        key.startswith("denoising_unet.") for key in params
    )
    assert last and not any(motion[key].any() for key in last)
    assert all(value.any() for key, value in motion.items() if key.endswith(".kernel") and key not in last)


def test_stage_1_from_a_model_with_temporal_layers(folders):
    params = load(run_config(model=folders["stage2"]))
    assert_from(params, "denoising_unet", folders["stage2"])


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (STAGE1, {"denoising_unet": "wide"}, r"unet.safetensors does not fit: 14 of another shape: .*, \.\.\.$"),
        (STAGE1, {"reference_unet": "deep"}, r"unet.safetensors does not fit: \d+ not expected: down_blocks"),
        (STAGE1, {"denoising_unet": "deep"}, r"unet.safetensors does not fit: \d+ not expected: down_blocks"),
        (STAGE1, {"vae": "wide"}, r"wide has no vae \(family sd\), only unet$"),
        (STAGE1, {"pose_guider": "sd"}, r"sd has no pose_guider \(family sd\), only unet, vae, image_encoder$"),
        (STAGE1, {"denoising_unet": "v1"}, r"v1 has no denoising_unet \(family animatediff\), only motion_module$"),
        (STAGE2, {"motion_module": "sd"}, r"sd has no motion_module \(family sd\)"),
    ],
)
def test_folders_that_do_not_fit(folders, config, fields, message):
    with pytest.raises(ValueError, match=message) as error:
        sources_of(config, **{name: folders[folder] for name, folder in fields.items()})
    assert "\n" not in str(error.value)


def test_temporal_layers_that_do_not_fit(folders, tmp_path, monkeypatch):
    unet = dataclasses.replace(UNET, block_out_channels=(16, 48), motion=MOTION)
    folder = write(tmp_path / "motion", ModelConfig(family="animatediff", motion_module=unet))
    with pytest.raises(ValueError, match="motion_module.safetensors does not fit: .* of another shape"):
        sources_of(STAGE2, motion_module=folder)
    # A mid block that the model has not.
    unet = dataclasses.replace(UNET, motion=dataclasses.replace(MOTION, mid_block=False))
    with pytest.raises(ValueError, match=r"motion_module.safetensors does not fit: \d+ not expected: mid_block"):
        sources_of(dataclasses.replace(STAGE2, denoising_unet=unet), motion_module=folders["v2"])
    # Half of one.
    stored = open_tensors(folders["v2"], "motion_module")
    del stored[next(key for key in stored if key.startswith("mid_block.") and not key.endswith(".pe"))]
    monkeypatch.setattr(start, "open_tensors", lambda folder, name: stored)
    with pytest.raises(ValueError, match="motion_module.safetensors does not fit: 1 missing: mid_block"):
        sources_of(STAGE2, motion_module=folders["v2"])


@pytest.mark.parametrize("name", ["model", "denoising_unet", "motion_module", "vae"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(FileNotFoundError, match="^nowhere does not exist, expected a model folder$"):
        sources_of(STAGE2, **{name: "nowhere"})


def test_what_is_frozen_has_weights(folders):
    def check(config):
        found = networks(config.model)
        sources = find_sources(config.model, config.start, found)
        check_frozen(sources, choose_trained(config, found), found, config.start)

    check(run_config(model=folders["sd"]))
    check(run_config(STAGE2, SECOND, model=folders["stage1"]))
    check(run_config(random=True))
    with pytest.raises(ValueError, match="^vae does not train and has no weights: give start.vae or start.model"):
        check(run_config(image_encoder=folders["sd"]))
    with pytest.raises(ValueError, match="^pose_guider does not train and has no weights"):
        check(run_config(STAGE2, SECOND, model=folders["sd"]))
    # Temporal layers that train on a UNet of random numbers; part of a network without weights.
    rest = {name: folders["stage1"] for name in STAGE1.networks if name != "denoising_unet"}
    with pytest.raises(ValueError, match=r"\(\d+ of \d+ parameters of denoising_unet\) does not train and has no"):
        check(run_config(STAGE2, SECOND, motion_module=folders["v2"], **rest))


def test_description(folders):
    found = describe_sources(
        sources_of(STAGE2, model=folders["sd"], motion_module=folders["v2"], vae=folders["stage1"])
    )
    assert found == {
        "denoising_unet": f"{folders['sd']}, {folders['v2']}",
        "reference_unet": folders["sd"],
        "pose_guider": "random",
        "vae": folders["stage1"],
        "image_encoder": folders["sd"],
    }
    assert describe_sources({"vae.a": Source(folder="x"), "vae.b": Source()}) == {"vae": "x, random"}


def test_frozen_weights_in_bfloat16(folders):
    trains = ("denoising_unet.*",)
    params = load(run_config(trains=trains, frozen_dtype="bfloat16", model=folders["stage1"]))
    wide = {key for key, value in params.items() if value.dtype == np.float32}
    assert {value.dtype for key, value in params.items() if key not in wide} == {jnp.dtype(jnp.bfloat16)}
    assert {key for key in params if key.startswith("denoising_unet.")} < wide
    norms = {key for key in params if key.rpartition(".")[0] + ".scale" in params}
    assert norms - wide == set()
    assert {key for key in wide if not key.startswith("denoising_unet.")} <= norms
    key = "vae.encoder.conv_in.kernel"
    stored = np.asarray(open_tensors(folders["stage1"], "vae")["encoder.conv_in.kernel"])
    np.testing.assert_array_equal(params[key], stored.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("a.*",), {"a.x", "a.y.kernel"}),
        (("a.*", "!a.y.*"), {"a.x"}),
        (("*", "!a.*", "a.x"), {"a.x", "b.x"}),
        (("!a.*", "*.x"), {"a.x", "b.x"}),
        (("A.*",), set()),
    ],
)
def test_the_last_pattern_that_fits_decides(patterns, expected):
    assert {key for key in ("a.x", "a.y.kernel", "b.x") if matches(key, patterns)} == expected


def test_chosen_parameters():
    chosen = choose_trained(run_config(STAGE2, SECOND), networks(STAGE2))
    assert chosen and all(key.startswith("denoising_unet.") and ".motion_modules." in key for key in chosen)
    assert not any(key.endswith(".pe") for key in chosen)
    chosen = choose_trained(run_config(trains=(*FIRST, "!reference_unet.up_blocks.1.*")), networks(STAGE1))
    assert {key.partition(".")[0] for key in chosen} == {"reference_unet", "denoising_unet", "pose_guider"}
    assert not any(key.startswith("reference_unet.up_blocks.1.") for key in chosen)
    assert any(key.startswith("reference_unet.up_blocks.0.") for key in chosen)


@pytest.mark.parametrize(
    ("trains", "message"),
    [
        (("denoising_unet.*", "unet.*"), r"^trains has 'unet.\*', which fits no parameter of denoising_unet, "),
        (("denoising_unet.*", "!vae.encodr.*"), r"^trains has '!vae.encodr.\*', which fits no parameter"),
        (("denoising_unet.*", "!*"), "which leaves nothing to train$"),
        ((), "which leaves nothing to train$"),
        (("vae.*",), "^trains has the VAE, which the denoising objective does not reach"),
    ],
)
def test_patterns_that_cannot_be(trains, message):
    with pytest.raises(ValueError, match=message):
        choose_trained(run_config(trains=trains), networks(STAGE1))


def test_random_values(folders):
    """They depend on the seed, and differ between parameters and between networks of one shape."""
    guider = dataclasses.replace(STAGE1.pose_guider, block_out_channels=(8, 8, 8, 8))
    small = dataclasses.replace(STAGE1, pose_guider=guider)
    rest = {name: folders["stage1"] for name in STAGE1.networks if name != "pose_guider"}

    def kernels(seed):
        params = load(run_config(small, seed=seed, **rest))
        names = [key for key in params if key.startswith("pose_guider.") and key.endswith(".kernel")]
        return {key: params[key] for key in names if "conv_out" not in key}

    # One by one they are what they are together.
    key, name = jax.random.key(0), "pose_guider"
    wanted = frozenset(key for key in networks(small).variables if key.startswith(f"{name}."))
    every, one = random_params(small, name, key, wanted), f"{name}.blocks.1.kernel"
    assert every.keys() == wanted
    (found,) = random_params(small, name, key, frozenset({one})).values()
    np.testing.assert_array_equal(found, every[one])

    first, again, other = kernels(0), kernels(0), kernels(1)
    alike = [key for key in first if first[key].shape == (3, 3, 8, 8)]
    assert len(alike) > 1
    assert len({first[key].tobytes() for key in alike}) == len(alike)
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
        assert not np.array_equal(value, other[key])
