"""A small model, and stand-ins for the object that runs it and for what draws the characters."""

import threading
import zlib

import cv2
import numpy as np
import pytest

from aa_jax.data.synthetic.source import SyntheticClip
from aa_jax.evaluation import generate
from tests.small_models import write_small_stack


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_small_stack(tmp_path_factory.mktemp("small") / "model")


class Recorder:
    """In an Animator's place: notes what it is given, and makes frames that tell the pose."""

    def __init__(self):
        self.calls, self.made, self.lock = [], 0, threading.Lock()

    def from_pretrained(self, model, *, dtype):
        with self.lock:
            self.made += 1
        return self

    def __call__(self, reference, pose, *, height, width, **options):
        with self.lock:
            self.calls.append((reference, pose, {"height": height, "width": width, **options}))
        shade = (255 * pose.points[:, 0, 0]).astype(np.uint8)[:, None, None, None]
        return np.broadcast_to(shade, (len(pose), height, width, 3))


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(generate, "Animator", recorder)
    return recorder


def smears(clip, indices):
    """Instead of a character's frames: colours that flow into one another, others in each clip and frame."""
    corners = np.random.default_rng(zlib.crc32(clip.name.encode())).integers(0, 256, (clip.num_frames, 4, 3, 3))
    return np.stack([cv2.resize(corners[index].astype(np.uint8), (clip.width, clip.height)) for index in indices])


@pytest.fixture
def quickly_drawn(monkeypatch):
    """The renderer takes long to compile."""
    monkeypatch.setattr(SyntheticClip, "frames", smears)
