"""Choosing a person and keeping to it."""

import numpy as np
import pytest

from aa_jax.pose.people import People, follow
from tests.pose.clips import make_clip

SIZE = {"height": 600, "width": 800}
FIGURE = make_clip(1).points[0] - 0.45  # about 0, within a quarter of the image


def person(x: float, y: float = 0.5, *, size: float = 0.6, score: float = 0.8, noise: float = 0.0, seed: int = 0):
    points = FIGURE * size + (x, y) + np.random.default_rng(seed).normal(0, noise or 1e-9, (134, 2))
    return points, np.full(134, score)


def crowd(*people) -> People:
    if not people:
        return People.nobody()
    return People(points=np.stack([points for points, _ in people]), scores=np.stack([scores for _, scores in people]))


def centres(keypoints) -> list[float | None]:
    """x of the person in each frame, None where it is not seen."""
    nose = FIGURE[0, 0]
    return [
        round(float(points[0, 0] - nose * 0.6), 2) if scores[0] > 0 else None
        for points, scores in zip(keypoints.points, keypoints.scores, strict=True)
    ]


CHOICES = {"best": 0.2, "largest": 0.8, "centre": 0.45, 0: 0.45, 1: 0.2, 2: 0.8}


@pytest.mark.parametrize(("choose", "x"), CHOICES.items())
def test_choices(choose, x):
    people = [person(0.45, score=0.6), person(0.2, score=0.9, size=0.5), person(0.8, score=0.7, size=0.9)]
    chosen = follow([crowd(*people)] * 2, **SIZE, choose=choose)
    expected = next(points for points, _ in people if abs(points[:, 0].mean() - x) < 0.05)
    np.testing.assert_allclose(chosen.points[1], expected, atol=1e-6)


def test_best_in_a_single_frame_is_moores_rule():
    rng = np.random.default_rng(0)
    for _ in range(20):
        points, scores = rng.random((4, 134, 2)), rng.random((4, 134))
        chosen = follow([People(points=points, scores=scores)], **SIZE)
        np.testing.assert_allclose(chosen.scores[0], scores[scores[:, :18].mean(axis=1).argmax()], rtol=1e-6)


def test_order_of_the_list_does_not_matter():
    rng = np.random.default_rng(1)
    frames = []
    for frame in range(30):
        people = [person(x + 0.01 * frame, noise=0.005, seed=frame) for x in (0.1, 0.35, 0.6)]
        frames.append(crowd(*(people[place] for place in rng.permutation(3))))
    for choose in range(3):
        found = centres(follow(frames, **SIZE, choose=choose))
        assert max(abs(x - found[0] - 0.01 * frame) for frame, x in enumerate(found)) < 0.03


def test_two_who_cross_keep_their_ways():
    """At the crossing both are in one place: only their speeds tell them apart."""
    frames = []
    for frame in range(41):
        there, back = person(0.1 + 0.02 * frame, noise=0.003, seed=frame), person(0.9 - 0.02 * frame, seed=frame)
        frames.append(crowd(there, back) if frame % 2 else crowd(back, there))
    found = centres(follow(frames, **SIZE, choose=1))
    np.testing.assert_allclose(found, 0.1 + 0.02 * np.arange(41), atol=0.03)


def test_someone_hidden_is_found_again_and_never_replaced_by_a_neighbour():
    def frame(index: int) -> People:
        mine, neighbour = person(0.3 + 0.005 * index), person(0.7, score=0.5)
        return crowd(neighbour) if 10 <= index < 20 else crowd(neighbour, mine)

    found = centres(follow([frame(index) for index in range(30)], **SIZE))
    assert found[10:20] == [None] * 10
    np.testing.assert_allclose([*found[:10], *found[20:]], 0.3 + 0.005 * np.r_[:10, 20:30], atol=0.02)


def test_long_presence_beats_a_short_better_one():
    frames = [crowd(person(0.3, score=0.7), person(0.8, score=0.95)) if index < 5 else crowd(person(0.3, score=0.7))
              for index in range(20)]  # fmt: skip
    assert centres(follow(frames, **SIZE)) == [0.3] * 20


def test_a_single_person_is_followed_across_a_cut():
    frames = [crowd(person(0.1)), crowd(), crowd(person(0.9)), crowd(person(0.2))]
    assert centres(follow(frames, **SIZE)) == [0.1, None, 0.9, 0.2]


def test_an_index_counts_in_the_first_frame_with_people():
    frames = [crowd(), crowd(person(0.2), person(0.8)), crowd(person(0.8), person(0.2))]
    assert centres(follow(frames, **SIZE, choose=1)) == [None, 0.8, 0.8]


def test_hidden_body_points_do_not_count():
    """A person seen in part is matched by what is seen of it, also when nothing is seen in both frames."""
    first, second, third = person(0.3), person(0.3), person(0.3)
    first[1][:9] = second[1][:9] = 0
    third[1][9:18] = 0
    other = person(0.8, score=0.5)
    frames = [crowd(one, other) if index % 2 else crowd(other, one) for index, one in enumerate((first, second, third))]
    chosen = follow(frames, **SIZE, choose=1)
    np.testing.assert_allclose(
        chosen.points[:, 50], np.stack([one[0][50] for one in (first, second, third)]), rtol=1e-5
    )


def test_bad_choices_and_nobody():
    frames = [crowd(), crowd(person(0.2), person(0.8))]
    for choose in ("biggest", 1.0, True, None):
        with pytest.raises(ValueError, match="expected one of best, largest, centre or a person's index"):
            follow(frames, **SIZE, choose=choose)
    for choose in (2, -1):
        with pytest.raises(ValueError, match=rf"person {choose} asked for, but frame 1.* has 2: .* from 0 to 1"):
            follow(frames, **SIZE, choose=choose)
    for empty in ([], [crowd()]):
        with pytest.raises(ValueError, match=f"nobody was found in any of {len(empty)} frames"):
            follow(empty, **SIZE)
    unseen = crowd(person(0.2, score=0.1), person(0.8, score=0.1))
    with pytest.raises(ValueError, match="nobody has a visible body point"):
        follow([unseen], **SIZE)
    with pytest.raises(ValueError, match="person 0 of frame 0 has no visible body point"):
        follow([unseen], **SIZE, choose=0)
    with pytest.raises(ValueError, match="height 0"):
        follow(frames, height=0, width=10)


def test_people_are_checked():
    with pytest.raises(ValueError, match=r"expected \(n, 134, 2\)"):
        People(points=np.zeros((134, 2)), scores=np.zeros(134))
    with pytest.raises(ValueError, match="divide x by the image's width"):
        People(points=np.full((1, 134, 2), 300.0), scores=np.ones((1, 134)))
    assert len(People.nobody()) == 0
