"""The keypoint regressor: PCK by hand, its parts against SciPy, the shipped weights on renders that they never saw."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from aa_jax.evaluation.keypoint_regressor import WEIGHTS, KeypointRegressor, __main__, load, pck, validation
from aa_jax.evaluation.keypoint_regressor.degrade import blur, degrade, quantise
from aa_jax.evaluation.keypoint_regressor.network import HEIGHT, WIDTH, KeypointNetwork, decode, prepare
from aa_jax.evaluation.keypoint_regressor.training import (
    FRAMES_PER_CLIP,
    TRAINED_ON,
    Pool,
    Settings,
    draw_pool,
    heatmap_loss,
    train,
)
from aa_jax.evaluation.keypoint_regressor.validation import DEGRADATIONS, SIDES_SWAPPED, validate
from aa_jax.network_tensors import network_tensors
from aa_jax.tensor_file import read_metadata, read_tensors, write_tensors

CLIPS = 12


@pytest.fixture(scope="module")
def renders() -> Pool:
    """Of characters held out, doing what others did in training."""
    return draw_pool(("identity",), CLIPS)


@pytest.fixture(scope="module")
def regressor() -> KeypointRegressor:
    return load()


def spots(count, seed=0) -> Pool:
    """Frames with a white spot where all points are."""
    places = np.random.default_rng(seed).uniform(0.2, 0.8, (count, 1, 2)).astype(np.float32)
    y, x = (np.arange(HEIGHT) + 0.5)[:, None] / HEIGHT, (np.arange(WIDTH) + 0.5) / WIDTH
    near = (x - places[:, :, :1]) ** 2 + (y - places[:, :, 1:]) ** 2 < 0.01
    points = np.repeat(places, 18, axis=1)
    points[:, 0, 1] -= 0.5  # for a height
    frames = np.repeat(255 * near.astype(np.uint8)[..., None], 3, axis=-1)
    return Pool(frames=frames, points=points, visible=np.ones((count, 18), bool))


def test_pck_by_hand():
    truth = np.array([[[0.5, 0.1], [0.5, 0.9], [0.2, 0.5], [0.9, 0.99]]] * 3)
    visible = np.array([[True, True, True, False]] * 3)
    # The height is 0.8, so that 0.04 is near enough down, and 0.04 / (3 / 4) across.
    found = truth + 0
    found[0, 0, 1] += 0.039
    found[0, 1, 1] += 0.041
    found[0, 2, 0] += 0.053
    found[1, 2, 0] -= 0.054
    found[1, 0] = np.nan
    found[1, 3] = 5  # does not count
    assert pck(found, truth, visible).tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    assert pck(found, truth, visible, 0.06).tolist() == pytest.approx([1, 2 / 3, 1])
    assert pck(found, truth, visible, aspect=1.0).tolist() == pytest.approx([1 / 3, 1 / 3, 1])


def test_pck_without_a_height():
    truth = np.random.default_rng(0).uniform(size=(3, 18, 2))
    visible = np.zeros((3, 18), bool)
    visible[1, 4] = visible[2, [4, 6]] = True
    assert np.isnan(pck(truth, truth, visible)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"found": np.zeros((2, 17, 2))}, r"points \(2, 17, 2\), true points \(2, 18, 2\)"),
        ({"visible": np.ones((2, 18))}, "visibility of dtype float64 given, expected bool"),
        ({"threshold": 0.0}, r"threshold 0.0 and aspect 0.75 given"),
        ({"aspect": -1.0}, r"aspect -1.0 given, expected positive"),
    ],
)
def test_pck_of_wrong_arguments(change, message):
    arguments = {"found": np.zeros((2, 18, 2)), "truth": np.zeros((2, 18, 2)), "visible": np.ones((2, 18), bool)}
    with pytest.raises(ValueError, match=message):
        pck(**(arguments | change))


def test_decode_finds_the_middle_of_the_highest_peak():
    """A Gaussian is found to a small part of a cell, whatever else there is farther off."""
    random = np.random.default_rng(1)
    centres = random.uniform((4, 4), (20, 28), (2, 18, 2))
    far = (centres + (12, 16)) % (24, 32)
    y, x = np.arange(32)[:, None, None, None] + 0.5, np.arange(24)[:, None, None] + 0.5

    def peak(middle):
        return -((x - middle[..., 0]) ** 2 + (y - middle[..., 1]) ** 2) / 2

    scores = np.logaddexp(peak(centres), peak(far) - 0.5).transpose(2, 0, 1, 3)
    found = decode(jnp.asarray(scores, jnp.float32))
    np.testing.assert_allclose(found * np.array([24, 32]), centres, atol=0.15)


def test_loss_is_the_cross_entropy_and_least_at_the_truth():
    pool = spots(3)
    random = np.random.default_rng(2)
    scores = random.normal(size=(3, 32, 24, 18))
    visible = random.random((3, 18)) < 0.7
    expected = []
    for i, k in zip(*np.nonzero(visible), strict=True):
        y, x = np.arange(32)[:, None] + 0.5, np.arange(24) + 0.5
        wanted = np.exp(-((x - 24 * pool.points[i, k, 0]) ** 2 + (y - 32 * pool.points[i, k, 1]) ** 2) / 2)
        found = scores[i, :, :, k] - np.log(np.exp(scores[i, :, :, k]).sum())
        expected.append(-(wanted / wanted.sum() * found).sum())
    assert float(heatmap_loss(jnp.asarray(scores), pool.points, visible)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(heatmap_loss(jnp.asarray(scores), pool.points, visible & False)) == 0


def test_blur_is_scipys():
    frames = np.random.default_rng(3).random((2, 64, 48, 3)).astype(np.float32)
    blurred = blur(frames, jnp.array([0.0, 1.3]).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(blurred[0], frames[0], atol=1e-6)
    expected = gaussian_filter(frames[1], (1.3, 1.3, 0), mode="nearest", radius=4)
    np.testing.assert_allclose(blurred[1], expected, atol=1e-5)


def test_quantised_waves_are_multiples_of_steps():
    frames = np.random.default_rng(4).random((2, 64, 48, 3)).astype(np.float32)
    quantised = np.asarray(quantise(frames, jnp.array([0.0, 0.05]).reshape(2, 1, 1, 1)))
    np.testing.assert_allclose(quantised[0], frames[0], atol=5e-3)
    for row, column, channel in ((0, 0, 0), (24, 40, 1), (56, 8, 2)):
        block = np.s_[1, row : row + 8, column : column + 8, channel]
        steps = 0.05 * (1 + np.add.outer(np.arange(8), np.arange(8)))
        expected = np.round(dctn(frames[block], norm="ortho") / steps)
        np.testing.assert_allclose(dctn(quantised[block], norm="ortho") / steps, expected, atol=1e-3)


def test_degraded_frames():
    frames = np.full((64, HEIGHT, WIDTH, 3), 0.5, np.float32)
    degraded = np.asarray(jax.jit(degrade)(jax.random.key(0), frames))
    assert degraded.min() >= 0 and degraded.max() <= 1
    untouched = (degraded == frames).all((1, 2, 3))
    assert 0.05 < untouched.mean() < 0.4
    assert np.abs(degraded - frames).mean((1, 2, 3))[~untouched].min() > 1e-3


def test_frames_of_any_size_are_found_alike(regressor, renders):
    """Enlarged and stretched frames have the points of those that they were made of, to a small part of a pixel."""
    frames = renders.frames[:8]
    large = frames.repeat(4, axis=1).repeat(3, axis=2)
    assert float(jnp.abs(prepare(large) - prepare(frames)).mean()) < 0.05
    away = np.abs(regressor(large) - regressor(frames)) * (WIDTH, HEIGHT)
    assert np.median(away) < 0.2
    assert regressor(frames[:0]).shape == (0, 18, 2)


def test_true_renders_score_high(regressor, renders):
    scores = pck(regressor(renders.frames), renders.points, renders.visible)
    assert scores.shape == (CLIPS * FRAMES_PER_CLIP,) and np.mean(scores) >= 0.9


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degraded_renders_score_nearly_as_high(name, regressor, renders):
    random = np.random.default_rng(0)
    frames = np.stack([DEGRADATIONS[name](frame, random) for frame in renders.frames])
    assert frames.dtype == np.uint8 and (frames != renders.frames).any()
    assert np.mean(pck(regressor(frames), renders.points, renders.visible)) >= 0.8


def test_wrong_poses_score_low(regressor, renders):
    found = regressor(renders.frames)

    def score(points):
        return np.mean(pck(points, renders.points, renders.visible))

    assert score(np.roll(found, FRAMES_PER_CLIP, axis=0)) < 0.45
    # Half a second later, or earlier.
    assert score(np.roll(found, 2, axis=0)) < score(found) - 0.2
    assert score(regressor(np.ascontiguousarray(renders.frames[:, :, ::-1]))) < 0.35
    assert score(found[:, SIDES_SWAPPED]) < 0.35


def test_weights_that_are_shipped():
    assert WEIGHTS.stat().st_size <= 1_500_000
    noted = json.loads(read_metadata(WEIGHTS)["pck"])
    assert set(noted) == {"validation_clips", "identity", "both"}
    for split in ("identity", "both"):
        assert noted[split]["true"] >= 0.85 > 0.5 > noted[split]["other clip"]
    assert json.loads(read_metadata(WEIGHTS)["trained_on"])["steps"] >= 1000


def test_noted_scores_are_those_of_the_weights(regressor, renders, monkeypatch):
    monkeypatch.setattr(validation, "draw_pool", lambda splits, clips, **size: renders)
    scores = validate(regressor, "identity", CLIPS)
    assert scores["true"] == pytest.approx(json.loads(regressor.metadata["pck"])["identity"]["true"], abs=0.05)
    assert set(scores) == set(json.loads(regressor.metadata["pck"])["identity"])


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)]
)
def test_frames_that_are_none(regressor, frames):
    with pytest.raises(ValueError, match=r"given, expected uint8 \(t, h, w, 3\)"):
        regressor(frames)


def test_other_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        load(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    network = nnx.eval_shape(lambda: KeypointNetwork(rngs=nnx.Rngs(0)))
    tensors = {key: np.zeros(value.shape, np.float32) for key, value in network_tensors(network).items()}
    write_tensors(path, tensors)
    assert load(path)(np.zeros((1, 64, 48, 3), np.uint8)).shape == (1, 18, 2)
    write_tensors(path, {key: value for key, value in tensors.items() if key != "head.bias"} | {"more": np.zeros(3)})
    with pytest.raises(ValueError, match=r"other.safetensors: .* 1 missing: head.bias; 1 not expected: more"):
        load(path)


def test_command(tmp_path, monkeypatch, capsys):
    """On frames with a spot it learns where that is, gives the same weights again, and tells what the file does."""
    drawn = []

    def pool(splits, clips, height=HEIGHT, width=WIDTH, progress=lambda done, total: None):
        drawn.append((tuple(splits), clips, height, width))
        some = spots(FRAMES_PER_CLIP * clips)
        return dataclasses.replace(some, frames=some.frames.repeat(height // HEIGHT, 1).repeat(width // WIDTH, 2))

    for module in (__main__, validation):
        monkeypatch.setattr(module, "draw_pool", pool)
    path = tmp_path / "weights.safetensors"
    settings = Settings(clips=16, steps=30, batch_size=4, seed=3)
    options = ["--clips", "16", "--steps", "30", "--batch-size", "4", "--seed", "3", "--validation-clips", "2"]
    assert __main__.main([*options, "--output", str(path)]) == 0
    assert drawn[:3] == [(TRAINED_ON, 16, 64, 48), (("identity",), 2, 64, 48), (("identity",), 2, 256, 192)]
    trained = load(path)
    held_out = spots(16, seed=1)
    distance = np.linalg.norm(trained(held_out.frames) - held_out.points, axis=-1)
    assert np.median(distance[:, 1:]) < 0.1
    noted = json.loads(trained.metadata["pck"])
    line = f"{'occluded':26}{noted['identity']['occluded']:10.3f}{noted['both']['occluded']:10.3f}\n"
    assert line in capsys.readouterr().out
    assert json.loads(trained.metadata["trained_on"]) == {"splits": [*TRAINED_ON], **dataclasses.asdict(settings)}

    losses = []
    again = train(pool(TRAINED_ON, 16), settings, lambda step, loss: losses.append(loss))
    # Of 768 cells each is as likely at first.
    assert losses[0] > 6 and np.mean(losses[-5:]) < 5
    stored = read_tensors(path)
    assert set(stored) == set(again)
    for name, value in again.items():
        assert value.dtype == stored[name].dtype == np.float16
        np.testing.assert_array_equal(value, stored[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "nowhere/weights.safetensors"], "nowhere/weights.safetensors given, expected a file in a folder"),
        (["--output", "w.safetensors", "--steps", "0"], "steps 0 given, expected 1 or more"),
        (["--output", "w.safetensors", "--validation-clips", "1"], "--validation-clips 1 given, expected 2 or more"),
    ],
)
def test_wrong_arguments_of_the_command(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert __main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
