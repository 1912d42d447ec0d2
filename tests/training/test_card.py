"""A model's card: what its runs, their logs and its scores say."""

import dataclasses
import json

from aa_jax.config import ModelConfig
from aa_jax.models.config import VAEConfig
from aa_jax.training.card import model_card, read_scores, stages
from aa_jax.training.config import Start, to_dict
from tests.training.runs import config

VAE = ModelConfig(vae=VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4))


def write_run(folder, start, times):
    folder.mkdir()
    described = {
        "config": to_dict(dataclasses.replace(config(), start=start)),
        "devices": {"platform": "gpu", "kind": "H200", "count": 2, "processes": 1},
        "versions": {"jax": "1.2", "flax": "3.4"},
    }
    (folder / "run.json").write_text(json.dumps(described))
    lines = [{"step": step, "time": time, "loss": 1.0} for step, time in enumerate(times)]
    lines.append({"step": len(times), "time": times[-1], "validation/psnr": 20.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_runs_are_followed_to_where_the_weights_came_from(tmp_path):
    """Pauses between sessions are no training; a folder that no run made is where the trail ends."""
    hour = [36.0 * step for step in range(101)]
    write_run(tmp_path / "first", Start(vae="elsewhere/model"), [*hour, *(1e6 + time for time in hour)])
    write_run(tmp_path / "second", Start(model=str(tmp_path / "first" / "model")), hour)
    first, second = stages(tmp_path / "second")
    assert (first.name, second.name) == ("first", "second")
    assert abs(first.hours - 2) < 1e-9 and abs(second.hours - 1) < 1e-9
    assert second.figures == {"validation/psnr": 20.5}
    assert stages(tmp_path / "none") == []
    card = model_card(VAE, {"vae": 12345}, [first, second])
    assert "| vae | 12,345 |" in card and "It was not evaluated." in card
    (row,) = [line for line in card.splitlines() if line.startswith("| first |")]
    assert "| 2.00 | 2 x H200, jax 1.2, flax 3.4 |" in row and "| clips | 4 | 8 | 2 x 32x32 | 0.01 (constant) |" in row


def test_scores_and_notes():
    estimates = {
        "psnr": {"value": 20.123456, "interval": [19.0, 21.25], "own": None},
        "flicker": {"value": 0.9, "interval": None, "own": 0.99},
    }
    scores = {"card": {"protocol": {"name": "characters", "split": "both"}, "clips": 64}, "estimates": estimates}
    card = model_card(VAE, {}, [], scores={"new characters": scores}, notes="For tests alone.\n")
    assert "For tests alone." in card and "not evaluated" not in card and "Nothing is known of it." in card
    assert "## Scores: new characters" in card and "Protocol characters, split both, 64 clips." in card
    assert "| psnr | 20.12 | 19 to 21.25 |  |" in card and "| flicker | 0.9 |  | 0.99 |" in card
    assert read_scores(card) == {"new characters": {"psnr": 20.12, "flicker": 0.9}}


def test_scores_are_read_back_by_their_names():
    card = {"protocol": {"name": "videos", "split": "test"}, "clips": 2}
    values = {"psnr": 21.5, "pose@0.05 hands": 1e-07, "fvd": float("nan"), "second_difference": -3.25}
    estimates = {name: {"value": value, "interval": None, "own": None} for name, value in values.items()}
    scores = {name: {"card": card, "estimates": estimates} for name in ("one", "two, of others")}
    del values["fvd"]
    assert read_scores(model_card(VAE, {"vae": 1}, [], scores=scores)) == dict.fromkeys(scores, values)
    assert read_scores(model_card(VAE, {"vae": 1}, [])) == {}


def test_the_licence_is_stated_or_said_to_be_missing():
    card = model_card(VAE, {}, [], licence="apache-2.0")
    assert card.startswith("---\nlibrary_name: aa_jax\npipeline_tag: image-to-video\nlicense: apache-2.0\n---\n")
    assert "The weights: apache-2.0." in card
    without = model_card(VAE, {}, [])
    assert "license:" not in without and "None is stated" in without
