"""What the renderer shows is where the truth about it says."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from aa_jax.data.synthetic import SyntheticSource, bit_accuracy
from aa_jax.data.synthetic.body import PARTS
from aa_jax.data.synthetic.dress import GROUPS
from aa_jax.data.synthetic.flow import BACKGROUND
from aa_jax.pose.keypoints import FACE, LEFT_HAND, RIGHT_HAND

HEIGHT, WIDTH, FRAMES = 96, 72, 4


def source(split="train", count=16, **options):
    return SyntheticSource(split=split, num_clips=count, num_frames=FRAMES, height=HEIGHT, width=WIDTH, **options)


def named(*beginnings: str) -> list[int]:
    return [index for index, name in enumerate(PARTS) if any(word in name for word in beginnings)]


@pytest.fixture(scope="module")
def drawn():
    """Clips of all splits with a frame and its parts."""
    clips = [source(split, count=6)[index] for split in ("train", "both") for index in range(6)]
    return [(clip, clip.frames([1])[0], clip.annotation([1])) for clip in clips]


def test_characters_fill_the_frame(drawn):
    """Standing ones 74 to 84 % of its height; all cover a tenth of it or so, and no frame is empty."""
    for clip, frame, annotation in drawn:
        mask = annotation.masks[0]
        assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8
        assert 0.05 < mask.mean() < 0.4, clip.name
        assert (annotation.parts[0] == BACKGROUND).sum() == (~mask).sum()
        if clip.motion.family == "idle":
            assert 0.66 < np.ptp(np.nonzero(mask)[0]) / HEIGHT < 0.92, clip.name


def test_the_figure_stands_out(drawn):
    """Garments and skin differ from the background that they hide."""
    for clip, frame, annotation in drawn:
        mask = annotation.masks[0]
        inside, outside = frame[mask].astype(float), frame[~mask].astype(float)
        assert inside.std(axis=0).mean() > 1.2 * outside.std(axis=0).mean() or inside.std() > 40, clip.name


def test_keypoints_are_where_the_parts_are(drawn):
    """Wrists on arms and hands, noses on heads, ankles on legs and feet, wherever nothing is in front of them."""
    on = {
        0: named("head", "nose"), 4: named("right_forearm", "right_palm", "right_thumb"),
        7: named("left_forearm", "left_palm", "left_thumb"), 9: named("right_thigh", "right_shin", "skirt"),
        12: named("left_thigh", "left_shin", "skirt"), 10: named("right_foot", "right_shin"),
        13: named("left_foot", "left_shin"),
    }  # fmt: skip
    hits = []
    for clip, _, annotation in drawn:
        points, scores = clip.keypoints.points[1], clip.keypoints.scores[1]
        for index, parts in on.items():
            if scores[index] > 0:
                column, row = (points[index] * (WIDTH, HEIGHT)).astype(int)
                hits.append(annotation.parts[0, row, column] in parts)
        face = points[FACE][scores[FACE] > 0]
        shown = annotation.parts[0][tuple((face * (WIDTH, HEIGHT)).astype(int).T[::-1])]
        if len(face) > 30:
            assert np.isin(shown, named("head", "nose", "hair", "brim", "cap")).mean() > 0.5, clip.name
    assert np.mean(hits) > 0.75, np.mean(hits)


def test_points_of_the_head_behind_it_are_not_seen():
    """Turning characters show their faces and then do not; hands are known from any side."""
    clips = [clip for clip in (source("both", count=40)[index] for index in range(40)) if clip.motion.family == "turn"]
    seen = np.array([clip.keypoints.scores[0, FACE].mean() for clip in clips])
    assert len(seen) > 10 and seen.min() < 0.2 and seen.max() > 0.8
    assert np.mean([clip.keypoints.scores[:, [*range(92, 134)]].mean() for clip in clips]) > 0.9


def test_hands_have_fingers_of_their_own():
    keypoints = source()[0].keypoints
    for part in (LEFT_HAND, RIGHT_HAND):
        pixels = keypoints.points[0, part] * (WIDTH, HEIGHT)
        assert len(np.unique(pixels.round(3), axis=0)) == 21
        assert 1.0 < np.linalg.norm(pixels[1:] - pixels[0], axis=1).max() < 0.2 * HEIGHT


@pytest.mark.parametrize("split", ["train", "both"])
def test_windows_cut_nothing_off(split):
    """The outline of every tube, the cloth included, is inside of its group's window."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 33)
    for clip in (source(split, count=100, moving_camera=True)[index] for index in range(100)):
        tubes = jax.tree.map(lambda value: np.asarray(value)[..., None], clip.scene.tubes)
        start, end = tubes.start_radius + tubes.layer, tubes.end_radius + tubes.layer
        # Along and across the axis from its middle: two half-ellipses.
        along = np.concatenate([-tubes.length / 2 - start * tubes.start_cap * np.cos(angle),
                                tubes.length / 2 + end * tubes.end_cap * np.cos(angle)], axis=-1)  # fmt: skip
        across = np.concatenate([start * np.sin(angle), end * np.sin(angle)], axis=-1)
        x = along * tubes.axis[..., 0, :] - across * tubes.axis[..., 1, :]
        y = along * tubes.axis[..., 1, :] + across * tubes.axis[..., 0, :]
        reach = np.maximum(np.abs(x), np.abs(y)).max(axis=-1) * tubes.present[..., 0]
        for group in GROUPS:
            # Edges are a pixel wide, and the window's place is rounded to pixels.
            needed = 2 * reach[:, group.parts].max() + 2
            assert needed <= math.ceil(group.window * HEIGHT) + 2, (clip.name, group.first, needed / HEIGHT)


def test_flow_leads_to_the_same_place():
    """A frame is the next frame looked up along the flow, wherever the same part is seen in both."""
    along, still = [], []
    for split in ("train", "both"):
        for clip in (source(split, count=8, moving_camera=True)[index] for index in range(8)):
            first, second = clip.frames([1, 2]).astype(np.float64)
            truth = clip.annotation([1, 2])
            y, x = np.mgrid[:HEIGHT, :WIDTH]
            place = np.stack([x, y], axis=-1) + truth.flow[0]
            column, row = place.round().astype(int).transpose(2, 0, 1)
            inside = (column >= 1) & (column < WIDTH - 1) & (row >= 1) & (row < HEIGHT - 1)
            column, row = column.clip(1, WIDTH - 2), row.clip(1, HEIGHT - 2)
            same = inside & (truth.parts[1][row, column] == truth.parts[0]) & (truth.parts[0] != BACKGROUND)
            same &= _uniform(truth.parts[0]) & _uniform(truth.parts[1])[row, column]
            moved = same & (np.linalg.norm(truth.flow[0], axis=-1) > 0.7)
            along.append(np.abs(_look_up(second, place) - first)[moved])
            still.append(np.abs(second - first)[moved])
    found, without = np.concatenate(along).mean(), np.concatenate(still).mean()
    assert found < 0.45 * without, (found, without)


def test_flow_of_a_still_background_is_zero_and_of_a_moving_camera_is_not():
    for moving in (False, True):
        clip = source(moving_camera=moving)[2]
        behind = clip.flow([0])[0][~clip.masks([0])[0]]
        assert (np.abs(behind).max() > 0.01) == moving


def test_shadow_and_pose_leave_the_rest_of_the_background_alone():
    """The reference has the same background and camera: where neither shows the character, frames agree."""
    for clip in (source()[index] for index in range(6)):
        neither = ~(clip.masks([0])[0] | clip.reference.masks([0])[0])
        neither[HEIGHT // 2 :] = False
        # Not beside the character either, where it covers less than half of a pixel.
        neither &= _uniform(neither.astype(np.int8))
        same = (clip.frames([0])[0] == clip.reference.frames([0])[0]).all(axis=-1)
        assert same[neither].mean() > 0.995, clip.name


def test_emblems_can_be_read(drawn):
    """Most bits even where a cell is hardly a pixel wide; from another's emblem, chance."""
    cells = [clip.emblem_cells([1]) for clip, *_ in drawn]
    own = [bit_accuracy(frame[None], cell) for (_, frame, _), cell in zip(drawn, cells, strict=True)]
    others = [
        bit_accuracy(frame[None], dataclasses.replace(cell, bits=other.bits))
        for (_, frame, _), cell, other in zip(drawn, cells, cells[1:] + cells[:1], strict=True)
    ]
    assert np.nanmean(own) > 0.85 and np.isfinite(own).sum() >= 6, own
    assert 0.4 < np.nanmean(others) < 0.6, others
    assert cells[0].points.shape == (1, 100, 2) and cells[0].bits.shape == (100,)


def test_emblem_accuracy_asks_for_the_same_frames():
    clip = source()[0]
    with pytest.raises(ValueError, match="1 frames and cells of 2 given"):
        bit_accuracy(clip.frames([0]), clip.emblem_cells([0, 1]))


def _uniform(values):
    """Where a pixel's eight neighbours have its value."""
    result = np.zeros(values.shape, bool)
    inner = values[1:-1, 1:-1]
    shifts = [
        values[1 + i : values.shape[0] - 1 + i, 1 + j : values.shape[1] - 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
    ]
    result[1:-1, 1:-1] = np.all([shift == inner for shift in shifts], axis=0)
    return result


def _look_up(frame, place):
    """Bilinear, at (x, y) in pixel indices."""
    low = np.floor(place).astype(int)
    x, y = low[..., 0].clip(0, WIDTH - 2), low[..., 1].clip(0, HEIGHT - 2)
    fx, fy = (place - low)[..., 0, None], (place - low)[..., 1, None]
    top = frame[y, x] * (1 - fx) + frame[y, x + 1] * fx
    return top * (1 - fy) + (frame[y + 1, x] * (1 - fx) + frame[y + 1, x + 1] * fx) * fy
