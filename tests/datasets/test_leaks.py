"""The benchmark cannot be solved by half of the input: what each part of it tells of the rest, as numbers.

Regressions are ridge and kernel ridge (nonlinear), their strength chosen on a validation set. R^2 is pooled over all
outputs, on clips that neither has seen: 1 - sum of squared errors / sum of squared deviations from the training mean.
"""

import numpy as np
import pytest

from aa_jax.data.synthetic import SyntheticSource, bit_accuracy
from aa_jax.pose.draw import LIMBS
from aa_jax.pose.keypoints import BODY

NUM_CLIPS, NUM_VALIDATION, NUM_TEST = 900, 100, 200
SIZE = {"num_frames": 4, "height": 96, "width": 72}
CHEST_BITS = 64


@pytest.fixture(scope="module")
def clips():
    """Every clip of another character: keypoints of one frame, of one of the reference, and the appearance."""
    source = SyntheticSource(split="train", num_clips=NUM_CLIPS, **SIZE)
    targets, references, looks, bits = [], [], [], []
    for index in range(NUM_CLIPS):
        clip = source[index]
        targets.append(clip.keypoints.points[2])
        references.append(clip.reference.keypoints.points[1])
        looks.append(clip.look)
        bits.append(np.ravel(clip.scene.person.chest.bits))
    return tuple(np.stack(values).astype(np.float64) for values in (targets, references, looks, bits))


def fractions_explained(inputs: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """R^2 on the test clips of both regressions."""
    return {name: 1 - error / spread for name, (error, spread) in _errors(inputs, outputs).items()}


def _errors(inputs, outputs):
    inputs, outputs = (_standardise(values.reshape(len(values), -1)) for values in (inputs, outputs))
    train, check = slice(0, -NUM_VALIDATION - NUM_TEST), slice(-NUM_VALIDATION - NUM_TEST, -NUM_TEST)
    test = slice(-NUM_TEST, None)
    distance = _distances(inputs)
    kernels = {"linear": inputs @ inputs.T / inputs.shape[1], "kernel": np.exp(-distance / np.median(distance))}
    result = {}
    for name, kernel in kernels.items():
        predict = {
            strength: kernel[:, train] @ np.linalg.solve(
                kernel[train, train] + strength * np.eye(kernel[train, train].shape[0]), outputs[train]
            )
            for strength in (0.01, 0.1, 1.0, 10.0, 100.0)
        }  # fmt: skip
        best = min(predict.values(), key=lambda values: ((values[check] - outputs[check]) ** 2).sum())
        result[name] = ((best[test] - outputs[test]) ** 2).sum(), (outputs[test] ** 2).sum()
    return result


def _distances(values):
    square = (values**2).sum(axis=1)
    return np.maximum(square[:, None] + square[None] - 2 * values @ values.T, 0)


def _standardise(values):
    train = values[: -NUM_VALIDATION - NUM_TEST]
    spread = train.std(axis=0)
    values = values[:, spread > 1e-6]
    return (values - train.mean(axis=0)[spread > 1e-6]) / spread[spread > 1e-6]


def directions(points: np.ndarray) -> np.ndarray:
    """Unit vectors along the limbs in pixels: a pose without the lengths of bones."""
    body = points[:, BODY] * (SIZE["width"], SIZE["height"])
    limbs = np.stack([body[:, end] - body[:, start] for start, end in LIMBS], axis=1)
    return limbs / np.maximum(np.linalg.norm(limbs, axis=-1, keepdims=True), 1e-6)


def test_the_regressions_find_what_is_there(clips):
    """The same code explains what does depend on the pose, linearly and not."""
    targets, *_ = clips
    found = fractions_explained(targets, directions(targets))
    assert found["kernel"] > 0.5 and found["linear"] > 0.4, found


def test_appearance_from_pose(clips):
    targets, _, looks, _ = clips
    found = fractions_explained(targets, looks)
    assert max(found.values()) < 0.02, found


def test_target_pose_from_the_references(clips):
    targets, references, *_ = clips
    found = fractions_explained(references, directions(targets))
    assert max(found.values()) < 0.05, found


def test_emblem_bits_from_pose(clips):
    """Chance is 50 %, of which a fair coin is off by 0.4 % in as many bits."""
    targets, _, _, bits = clips
    inputs = _standardise(targets.reshape(len(targets), -1))
    train = slice(0, -NUM_TEST)
    for strength in (1.0, 100.0):
        gram = inputs[train] @ inputs[train].T + strength * inputs.shape[1] * np.eye(len(inputs) - NUM_TEST)
        guess = inputs @ (inputs[train].T @ np.linalg.solve(gram, bits[train] - 0.5)) > 0
        accuracy = (guess[-NUM_TEST:] == (bits[-NUM_TEST:] > 0.5)).mean()
        assert abs(accuracy - 0.5) < 0.01, accuracy


def test_copying_the_reference_is_bad_in_the_foreground():
    """It shows the background, and neither the pose nor the bits of the emblem where they should be."""
    source = SyntheticSource(split="train", num_clips=24, **SIZE)
    foreground, behind, copied_bits, true_bits = [], [], [], []
    for clip in (source[index] for index in range(24)):
        target, copy = clip.frames([2]), clip.reference.frames([1])
        either = clip.masks([2])[0] | clip.reference.masks([1])[0]
        error = (target[0].astype(np.float64) - copy[0]) ** 2
        foreground.append(error[either].mean())
        behind.append(error[~either].mean())
        cells = clip.emblem_cells([2])
        copied_bits.append(bit_accuracy(copy, cells))
        true_bits.append(bit_accuracy(target, cells))
    decibels = {name: 10 * np.log10(255**2 / np.mean(value)) for name, value in
                (("foreground", foreground), ("background", behind))}  # fmt: skip
    assert decibels["foreground"] < 14, decibels
    assert decibels["background"] > 26, decibels
    assert np.nanmean(copied_bits) < 0.6 and np.nanmean(true_bits) > 0.85, (copied_bits, true_bits)
