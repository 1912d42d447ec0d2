"""The ablation's tables: which runs are compared, and what differences and their intervals are."""

import json

import numpy as np
import pytest

from aa_jax.evaluation.report import to_json
from aa_jax.evaluation.results import Estimate, Results
from benchmarks import ablation, table

HARD = np.array([10.0, 14.0, 19.0, 25.0, 30.0, 33.0])


def results(psnr):
    """Of clips with these values; a clip's name does not depend on the others."""
    clips = {f"clip_{number}": {"psnr": value} for number, value in enumerate(psnr)}
    estimate = Estimate(value=float(np.mean(psnr)), interval=None, clips=len(psnr), samples=len(psnr))
    return Results(estimates={"psnr": estimate}, unavailable={}, clips=clips, handled=(), problems=(), card={})


def test_difference_knows_nothing_of_how_hard_clips_are():
    better = [results(HARD + 1.0 + noise) for noise in (0.02 * np.cos(HARD), -0.01 * np.cos(HARD))]
    row = table.differences(better, [results(HARD)], ["psnr"])["psnr"]
    assert row["value"] == pytest.approx(1, abs=0.01)
    low, high = row["interval"]
    assert 0.98 < low < row["value"] < high < 1.02
    assert np.ptp(table.merged(better, ["psnr"])["psnr"]["interval"]) > 5


def test_clips_are_matched_by_name():
    one = results(HARD)
    turned = Results(**{**vars(one), "clips": dict(reversed(one.clips.items()))})
    assert table.differences([one], [turned], ["psnr"])["psnr"]["interval"] == (0, 0)
    with pytest.raises(ValueError, match="different clips"):
        table.differences([one], [results(HARD[:5])], ["psnr"])


def test_clips_without_a_value_are_left_out():
    row = table.differences([results(HARD + 2)], [results([*HARD[:5], np.nan])], ["psnr"])["psnr"]
    assert row["value"] == pytest.approx(2)


def test_arms_are_compared_over_the_seeds_that_both_have(tmp_path, monkeypatch):
    """The paper's arm is 3 above the other with seed 0, and 50 with the seed that the other lacks."""
    monkeypatch.setattr(ablation, "METRICS", ("psnr",))
    values = {
        ("clip", 0, "stage1"): HARD,
        ("clip", 0, "stage2"): HARD + 0.5,
        ("referencenet", 0, "stage1"): HARD + 3,
        ("referencenet", 1, "stage1"): HARD + 50,
    }
    runs = [ablation.Run(folder=tmp_path, arm=arm, seed=seed, stage=stage) for arm, seed, stage in values]
    for run, psnr in zip(runs, values.values(), strict=True):
        run.scores.mkdir(parents=True)
        (run.scores / "scores.json").write_text(to_json(results(psnr)))
    assert json.loads((runs[0].scores / "scores.json").read_text())["clips"]["clip_0"] == {"psnr": 10.0}
    arms, stages = ablation.comparisons(runs).values()
    assert {title: row["psnr"]["value"] for title, row in arms.items()} == {"clip, without temporal layers": -3}
    assert {title: row["psnr"]["value"] for title, row in stages.items()} == {"clip, with temporal layers": 0.5}
    assert "| clip, without temporal layers | -3.00 [-3.00, -3.00] |" in table.markdown_of_differences(arms, ["psnr"])
    assert "| clip, with temporal layers | +0.50 [+0.50, +0.50] |" in table.markdown_of_differences(stages, ["psnr"])
