"""Which of several people to follow, and keeping to that one over time.

Everyone is tracked, so that a neighbour's detection goes to the neighbour: in each frame, detections go to the tracks
whose pose, moved on at its speed, is nearest. Then one track is chosen.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float

from aa_jax.pose.keypoints import BODY, NUM_KEYPOINTS, VISIBLE, Keypoints, check_points

Choice = Literal["best", "largest", "centre"] | int
CHOICES = ("best", "largest", "centre")

# Pixels, on a side of an image.
LARGEST = 1_000_000
# How far, in body sizes, a person may be from where it is expected: so much a frame, and so much after any absence.
REACH = 0.5
FARTHEST_REACH = 2.0
# Frames for which someone out of sight is expected to move on.
COASTING = 5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Everyone found in one frame.

    Attributes:
      points: (n, 134, 2) x and y normalised by the image's width and height, in the order of `Keypoints`; n may be 0.
      scores: (n, 134) confidence, 0 where a point is missing.

    Raises:
      ValueError: a wrong shape, a value that is not finite, or coordinates in pixels.
    """

    points: Float[np.ndarray, "n 134 2"]
    scores: Float[np.ndarray, "n 134"]

    def __post_init__(self) -> None:
        check_points(self.points, self.scores)
        if self.points.ndim != 3:
            raise ValueError(f"people have points of shape {self.points.shape}, expected (n, {NUM_KEYPOINTS}, 2)")

    @classmethod
    def nobody(cls) -> Self:
        """An empty frame."""
        return cls(points=np.zeros((0, NUM_KEYPOINTS, 2)), scores=np.zeros((0, NUM_KEYPOINTS)))

    def __len__(self) -> int:
        """Number of people."""
        return len(self.points)


@dataclasses.dataclass
class _Track:
    """One person over time; lengths are in image heights."""

    frame: int  # where last seen
    body: Float[np.ndarray, "18 2"]
    seen: Bool[np.ndarray, "18"]
    velocity: Float[np.ndarray, "2"]
    people: dict[int, int]  # frame -> which of its people

    def expected(self, frame: int) -> Float[np.ndarray, "18 2"]:
        return self.body + self.velocity * min(frame - self.frame, COASTING)

    def move(self, frame: int, person: int, body: np.ndarray, seen: np.ndarray) -> None:
        both = self.seen & seen
        if both.any():
            latest = (body[both] - self.body[both]).mean(axis=0) / (frame - self.frame)
            # Halfway to the latest speed: detections jitter.
            self.velocity = (self.velocity + latest) / 2 if len(self.people) > 1 else latest
        self.frame, self.body, self.seen = frame, body, seen
        self.people[frame] = person


def check_size(height: int, width: int) -> None:
    """Raise ValueError unless the size of an image is in whole pixels, at least one and no fantastic number."""
    for value, what in ((height, "height"), (width, "width")):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value <= LARGEST:
            raise ValueError(f"{what} {value!r} of the images given, expected a positive whole number of pixels")


def follow(
    frames: Sequence[People], *, height: int, width: int, fps: float | None = None, choose: Choice = "best"
) -> Keypoints:
    """The keypoints of one person.

    Args:
      frames: everyone found in each frame.
      height: of the frames, in pixels.
      width: of the frames, in pixels.
      fps: frames per second.
      choose: whom. "best": the greatest mean score of the body (the rule by which Moore-AnimateAnyone chooses in each
        frame); "largest": the greatest box around the body; "centre": nearest the centre of the image; each summed
        over the frames in which the person is seen, so that a long presence counts. Or an index among the people of
        the first frame that has any.

    Returns:
      Keypoints with a score of 0 for all points of the frames in which the person is not seen. If no frame has more
      than one person, that one is followed however far it jumps; else across absences and as far as it may have moved.

    Raises:
      ValueError: no frames, nobody in any frame, or a choice that is not possible.
    """
    check_size(height, width)
    by_index = isinstance(choose, int | np.integer) and not isinstance(choose, bool)
    if not by_index and choose not in CHOICES:
        raise ValueError(f"choose {choose!r} given, expected one of {', '.join(CHOICES)} or a person's index")
    first = next((index for index, people in enumerate(frames) if len(people)), None)
    if first is None:
        raise ValueError(f"nobody was found in any of {len(frames)} frames, expected a person")
    if by_index and not 0 <= int(choose) < len(frames[first]):
        raise ValueError(
            f"person {choose} asked for, but frame {first}, the first that has any, has {len(frames[first])}: "
            f"expected an index from 0 to {len(frames[first]) - 1}"
        )
    if max(len(people) for people in frames) == 1:
        chosen = {index: 0 for index, people in enumerate(frames) if len(people)}
    else:
        chosen = _choose(_track(frames, width / height), frames, width / height, first, choose)
    points = np.zeros((len(frames), NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((len(frames), NUM_KEYPOINTS), np.float32)
    for frame, person in chosen.items():
        points[frame], scores[frame] = frames[frame].points[person], frames[frame].scores[person]
    return Keypoints(points=points, scores=scores, height=height, width=width, fps=fps)


def _choose(
    tracks: list[dict[int, int]], frames: Sequence[People], aspect: float, first: int, choose: Choice
) -> dict[int, int]:
    if isinstance(choose, str):
        if not tracks:
            raise ValueError("nobody has a visible body point, so that none of several people can be followed")
        values = [_values(people, aspect, choose) for people in frames]
        return max(tracks, key=lambda track: sum(values[frame][person] for frame, person in track.items()))
    for track in tracks:
        if track.get(first) == choose:
            return track
    raise ValueError(f"person {choose} of frame {first} has no visible body point, so that it cannot be followed")


def _track(frames: Sequence[People], aspect: float) -> list[dict[int, int]]:
    """For each person, in which frames it is seen, and as which of their people."""
    tracks: list[_Track] = []
    for frame, people in enumerate(frames):
        bodies = people.points[:, BODY] * (aspect, 1)
        seen = people.scores[:, BODY] >= VISIBLE
        left = [person for person in range(len(people)) if seen[person].any()]
        costs = sorted(
            (cost, place, person)
            for place, track in enumerate(tracks)
            for person in left
            if (cost := _distance(track, frame, bodies[person], seen[person])) <= _reach(frame - track.frame)
        )
        for _, place, person in costs:
            if person in left and tracks[place].frame < frame:
                tracks[place].move(frame, person, bodies[person], seen[person])
                left.remove(person)
        tracks += [_Track(frame, bodies[person], seen[person], np.zeros(2), {frame: person}) for person in left]
    return [track.people for track in tracks]


def _reach(frames: int) -> float:
    return min(REACH * frames, FARTHEST_REACH)


def _distance(track: _Track, frame: int, body: np.ndarray, seen: np.ndarray) -> float:
    """How far, in body sizes, a body is from where a track's is expected."""
    expected, both = track.expected(frame), track.seen & seen
    if both.any():
        distance = np.linalg.norm(body[both] - expected[both], axis=-1).mean()
    else:
        distance = np.linalg.norm(body[seen].mean(axis=0) - expected[track.seen].mean(axis=0))
    size = max(np.linalg.norm(np.ptp(body[seen], axis=0)), np.linalg.norm(np.ptp(track.body[track.seen], axis=0)))
    return float(distance / max(size, 1e-3))


def _values(people: People, aspect: float, choose: str) -> Float[np.ndarray, " n"]:
    """What the choice goes by, at least 0, of each of a frame's people."""
    scores = people.scores[:, BODY]
    if choose == "best":
        return scores.mean(axis=1)
    values = np.zeros(len(people))
    for person, (body, seen) in enumerate(zip(people.points[:, BODY] * (aspect, 1), scores >= VISIBLE, strict=True)):
        if seen.any() and choose == "largest":
            values[person] = np.ptp(body[seen], axis=0).prod()
        elif seen.any():
            offset = np.linalg.norm(body[seen].mean(axis=0) - (aspect / 2, 0.5))
            values[person] = max(0.0, 1 - offset / np.hypot(aspect / 2, 0.5))
    return values
