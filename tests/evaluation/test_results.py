"""The clips' files together: what weighs, what is left out, and what a few windows tell."""

import numpy as np
import pytest

from aa_jax.evaluation import score
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.evaluation.results import gather
from aa_jax.evaluation.score import ClipScores
from aa_jax.evaluation.suite import Suite

PROTOCOL = PROTOCOLS["videos"]
SUITE = Suite(values={"psnr": None, "flicker": None}, features={"fvd": None}, unavailable={}, networks={})


def written(folder, clips):
    files = []
    for name, (psnr, features) in clips.items():
        files.append(folder / f"{name}.npz")
        own = {"flicker": np.array([0.9])}
        values = {"psnr": np.array(psnr), "flicker": np.array([0.8])}
        score.write(
            files[-1], ClipScores(name=name, values=values, own=own, features={"fvd": features}, handled=()), "stamp"
        )
    return files


def features(seed, count=40):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (count, 3)), rng.normal(1, 1, (count, 3))


def results(files):
    return gather(files, PROTOCOL, SUITE, handled=("a: handled",), problems=(), card={})


def test_numbers_that_are_none_or_infinite(tmp_path):
    clips = {"a": ([20.0, np.nan], features(0)), "b": ([np.inf, 30.0], features(1)), "c": ([np.nan], features(2))}
    found = results(written(tmp_path, clips))
    psnr, flicker = (found.estimates[name] for name in ("psnr", "flicker"))
    assert (psnr.value, psnr.clips, psnr.samples) == (25.0, 2, 2)
    assert psnr.warning == "1 infinite values are left out"
    assert (flicker.value, flicker.own, flicker.warning) == (pytest.approx(0.8), pytest.approx(0.9), "")
    assert "psnr" not in found.clips["c"] and found.handled == ("a: handled",)


def test_frechet_distance_of_all_clips(tmp_path):
    """Of many normal features whose means differ by (1, 1, 1), about 3."""
    clips = {f"{number:02}": ([20.0], features(number, 300)) for number in range(12)}
    fvd = results(written(tmp_path, clips)).estimates["fvd"]
    assert fvd.value == pytest.approx(3, rel=0.1) and fvd.interval[0] < fvd.value < fvd.interval[1]
    assert (fvd.clips, fvd.samples, fvd.warning) == (12, 3600, "")


def test_few_windows_are_told(tmp_path):
    few = results(written(tmp_path, {"a": ([20.0], features(0, 3)), "b": ([21.0], features(1, 3))})).estimates["fvd"]
    assert np.isfinite(few.value) and few.warning
    one = results(written(tmp_path, {"a": ([20.0], features(0, 1))}))
    assert np.isnan(one.estimates["fvd"].value) and "two or more" in one.estimates["fvd"].warning
    assert (
        one.estimates["psnr"].warning == "one clip tells nothing of others" and one.estimates["psnr"].interval is None
    )
