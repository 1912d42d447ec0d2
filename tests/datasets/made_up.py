"""A small data set in memory: each pixel tells its clip and its frame."""

import dataclasses

import numpy as np

from aa_jax.pose.keypoints import NUM_KEYPOINTS, Keypoints


@dataclasses.dataclass(frozen=True)
class MadeUpClip:
    number: int
    length: int
    height: int = 12
    width: int = 8

    @property
    def name(self):
        return f"clip {self.number}"

    @property
    def reference(self):
        return self

    @property
    def keypoints(self):
        rng = np.random.default_rng(self.number)
        points = rng.uniform(0.1, 0.9, (self.length, NUM_KEYPOINTS, 2)).astype(np.float32)
        scores = np.ones((self.length, NUM_KEYPOINTS), np.float32)
        return Keypoints(points=points, scores=scores, height=self.height, width=self.width, fps=12)

    def frames(self, indices):
        """Red is the clip, green the frame, blue grows to the right."""
        frames = np.zeros((len(indices), self.height, self.width, 3), np.uint8)
        frames[..., 0] = self.number
        frames[..., 1] = np.array(indices)[:, None, None]
        frames[..., 2] = np.arange(self.width)
        return frames


@dataclasses.dataclass(frozen=True)
class MadeUpSource:
    lengths: tuple[int, ...] = (5, 30, 40, 8, 25)
    height: int = 12
    width: int = 8

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        return MadeUpClip(index, self.lengths[index], self.height, self.width)


@dataclasses.dataclass(frozen=True)
class DrawnMadeUpClip:
    """The same with poses drawn already: three times as bright as its frames."""

    clip: MadeUpClip

    @property
    def name(self):
        return self.clip.name

    @property
    def num_frames(self):
        return self.clip.length

    @property
    def reference(self):
        return self

    def frames(self, indices):
        return self.clip.frames(indices)

    def drawn(self, indices):
        return 3 * self.clip.frames(indices)
