"""Encoding a data set's frames with a model folder, once: `python -m aa_jax.data cache`."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.data.__main__ import main
from aa_jax.data.cache import open_cache
from aa_jax.data.encode_frames import FrameEncoder, made_with
from aa_jax.data.folder import FolderSource
from aa_jax.data.sample import SampleConfig, make_sample
from aa_jax.models.clip_vision import CLIP_MEAN, CLIP_STD
from aa_jax.weights import load_config, load_network
from tests.datasets.videos import add_clip

SIZE = {"height": 48, "width": 32}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("a", "b", "c")):
        add_clip(folder, name, frames=4 + seed, height=60, seed=seed)
    return folder


@pytest.fixture(scope="module")
def sample(moore_folder):
    return SampleConfig(**SIZE, num_frames=3, clip_size=load_config(moore_folder).image_encoder.image_size)


def command(model, videos, output, *more, quiet=True):
    size = [f"--{name}={value}" for name, value in SIZE.items()]
    paths = ["--model", str(model), "--folder", str(videos), "--output", str(output)]
    return ["cache", *paths, *size, "--frame-batch", "3", *(["--quiet"] if quiet else []), *more]


@pytest.fixture(scope="module")
def cache(moore_folder, videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "cache"
    assert main(command(moore_folder, videos, folder)) == 0
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_samples_hold_what_the_networks_make_of_their_images(moore_folder, videos, cache, sample):
    source = FolderSource(videos)
    cached = open_cache(cache, source, sample, made_with=made_with(moore_folder))
    vae, image_encoder = (load_network(moore_folder, name) for name in ("vae", "image_encoder"))
    for index in range(len(source)):
        plain = make_sample(source[index], sample, np.random.default_rng(index))
        found = make_sample(cached[index], sample, np.random.default_rng(index))
        assert found["target_moments"].dtype == np.float16 and found["target_embedding"].dtype == np.float32
        images = np.concatenate([plain["target"], plain["reference"][None]])
        expected = vae.encode(jnp.asarray(images / 127.5 - 1, jnp.float32))
        moments = np.concatenate([found["target_moments"], found["reference_moments"][None]])
        np.testing.assert_allclose(moments, np.concatenate(expected, -1), rtol=2e-3, atol=2e-3)
        assert np.std(expected.mean) > 0.01
        pixels = (plain["whole_reference"] / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
        embedding = image_encoder(jnp.asarray(pixels[None], jnp.float32))[0]
        np.testing.assert_allclose(found["reference_embedding"], embedding, rtol=1e-4, atol=1e-5)


def test_going_on(moore_folder, videos, cache, tmp_path, monkeypatch, capsys):
    """An interrupted run leaves whole clips alone, and the next one makes the rest."""
    encode, calls = FrameEncoder.__call__, []

    def interrupted(self, *images):
        calls.append(len(images[0]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(self, *images)

    monkeypatch.setattr(FrameEncoder, "__call__", interrupted)
    assert main(command(moore_folder, videos, tmp_path / "cache")) == 2
    assert capsys.readouterr().err == "data: interrupted\n"
    part = contents(tmp_path / "cache")
    assert len(part) == 3  # the description, and two arrays of the first clip
    assert main(command(moore_folder, videos, tmp_path / "cache", quiet=False)) == 0
    assert calls == [3] * 8
    assert contents(tmp_path / "cache") == contents(cache)
    told = capsys.readouterr()
    assert told.out == f"cached    {tmp_path / 'cache'}: 3 clips\n" and "3/3" in told.err


def test_records_and_bfloat16(moore_folder, videos, cache, sample, tmp_path):
    assert (
        main(["prepare", "folder", str(videos), "--output", str(tmp_path / "data"), "--num-workers=1", "--quiet"]) == 0
    )
    paths = ["--records", str(tmp_path / "data"), "--model", str(moore_folder), "--output", str(tmp_path / "cache")]
    assert main(["cache", *paths, "--height=48", "--width=32", "--dtype=bfloat16", "--quiet"]) == 0
    exact, rough = (
        open_cache(folder, FolderSource(videos), sample, made_with=made_with(moore_folder))[2].encoded(range(6))
        for folder in (cache, tmp_path / "cache")
    )
    for name, array in exact.items():
        assert rough[name].dtype == array.dtype
        error = np.linalg.norm(rough[name].astype(np.float32) - array) / np.linalg.norm(array)
        assert 1e-4 < error < 0.1


def test_another_models_cache_is_refused(moore_folder, videos, cache, sample, tmp_path, capsys):
    model = shutil.copytree(moore_folder, tmp_path / "model")
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["files"]["denoising_unet.safetensors"]["sha256"] = "0" * 64
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert made_with(model) == made_with(moore_folder)  # fine-tuned, with the same frozen networks
    manifest["files"]["vae.safetensors"]["sha256"] = "0" * 64
    (model / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="was made with made_with 'vae [0-9a-f]{16}, image_encoder .* instead of"):
        open_cache(cache, FolderSource(videos), sample, made_with=made_with(model))
    assert main(command(model, videos, cache)) == 2
    assert "instead of 'vae 0000000000000000, image_encoder" in capsys.readouterr().err


def test_clips_of_another_length_are_refused(moore_folder, cache, sample, tmp_path):
    add_clip(tmp_path, "a", frames=9)
    cached = open_cache(cache, FolderSource(tmp_path), sample, made_with=made_with(moore_folder))
    with pytest.raises(ValueError, match="clip a has 9 frames, but 4 in the cache"):
        cached[0].encoded([0])


def test_bad_commands(moore_folder, videos, cache, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    without = shutil.copytree(moore_folder, tmp_path / "without")
    manifest = json.loads((without / "manifest.json").read_text())
    del manifest["files"]["image_encoder.safetensors"]
    (without / "manifest.json").write_text(json.dumps(manifest))
    new = tmp_path / "new"
    for arguments, message in (
        (command(tmp_path / "none", videos, new), "none is no model folder and no hub id"),
        (command(tmp_path, videos, new), "has no manifest.json: it is no model folder"),
        (command(without, videos, new), "has no image_encoder, expected a model with both to encode frames"),
        (command(moore_folder, tmp_path / "none", new), "none does not exist, expected a folder of videos"),
        (command(moore_folder, videos, new, "--split", "val"), "source.split is 'val', but a folder has no splits"),
        (command(moore_folder, videos, new, "--height", "50"), "height is 50, but the model's VAE takes multiples of"),
        (command(moore_folder, videos, new, "--width", "0"), "SampleConfig.width is 0, expected 1 or more"),
        (command(moore_folder, videos, new, "--frame-batch", "0"), "frame_batch is 0, expected 1 or more"),
        (command(moore_folder, videos, tmp_path / "full"), "full holds something else than a cache"),
        (command(moore_folder, videos, cache, "--dtype", "bfloat16"), "with dtype 'float32' instead of 'bfloat16'"),
    ):
        before = contents(cache)
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1
        assert not new.exists() and contents(cache) == before
    for arguments in (command(moore_folder, videos, new, "--records", "a"), ["cache", "--model", "a"]):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2 and capsys.readouterr().err.count("\n") == 1
