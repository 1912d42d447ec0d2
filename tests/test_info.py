"""What is told of a model folder."""

import json
import math
import shutil

import pytest

from aa_jax.info import info, main
from aa_jax.weights import expected_tensors, load_manifest
from tests.small_models import SMALL_STACK, write_small_stack

CARD = "# A\n\n## Scores: new characters\n\nProtocol a.\n\n| metric | value |\n| --- | --- |\n| psnr | 20.5 | | |\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_small_stack(tmp_path_factory.mktemp("info") / "model")
    (folder / "README.md").write_text(CARD)
    return folder


def test_the_facts_are_the_models(model, capsys):
    assert main([str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    counts = {
        name: sum(math.prod(leaf.shape) for leaf in expected_tensors(name, getattr(SMALL_STACK, name)).values())
        for name in SMALL_STACK.networks
    }
    assert {name: each["parameters"] for name, each in facts["networks"].items()} == counts
    assert facts["parameters"] == sum(counts.values())
    assert facts["bytes"] == sum(path.stat().st_size for path in model.glob("*.safetensors"))
    assert {each["dtype"] for each in facts["networks"].values()} == {"float32"}
    assert (facts["family"], facts["lacking"], facts["downscale"], facts["latent_channels"]) == ("aa_jax", "", 4, 12)
    assert facts["max_window_length"] == 8 and facts["image_size"] == 28
    assert facts["inference"]["height"] == 52 and facts["inference"]["num_inference_steps"] == 2
    assert facts["scores"] == {"new characters": {"psnr": 20.5}}


def test_the_same_in_lines(model, capsys):
    assert main([str(model), "--checksums"]) == 0
    said = capsys.readouterr().out
    facts = info(str(model))
    assert "family aa_jax" in said and "checksums fit the manifest" in said and f"{facts['parameters']:,}" in said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert lines["vae"] == [f"{facts['networks']['vae']['parameters']:,}", "float32"]
    assert lines["height"] == ["52"] and lines["window_overlap"] == ["-"] and lines["psnr"] == ["20.5"]


def test_damage_is_one_line(model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "model")
    path = folder / "vae.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main([str(folder)]) == 0, "sizes alone are compared"
    capsys.readouterr()
    assert main([str(folder), "--checksums", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "vae.safetensors has SHA-256" in printed.err
    path.write_bytes(data[:-1])
    assert main([str(folder)]) == 2
    assert "bytes, but the manifest says" in capsys.readouterr().err
    manifest = load_manifest(model)
    del manifest["files"]["vae.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main([str(folder)]) == 2
    assert "vae.safetensors is not in the manifest" in capsys.readouterr().err


def test_no_model(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert "is no model folder and no hub id" in capsys.readouterr().err
