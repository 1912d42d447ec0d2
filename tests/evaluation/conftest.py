"""A small model, and a stand-in for the object that runs it."""

import threading

import numpy as np
import pytest

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
