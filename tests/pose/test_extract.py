"""Extraction: sources of all forms, one person, and an interrupted run that goes on to the same result."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from aa_jax.pose import load_keypoints
from aa_jax.pose.dwpose import DWPose
from aa_jax.pose.extract import extract
from aa_jax.pose.people import People, follow
from aa_jax.video import read_video, write_video
from tests.full_disk import largest_file
from tests.pose import onnx_models as nets

HEIGHT, WIDTH, FRAMES = 128, 96, 12
SIZE = (192, 144)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return nets.write_spots(tmp_path_factory.mktemp("networks"), SIZE)


@pytest.fixture
def model(networks):
    return DWPose(*networks, batch_size=5, device="cpu")


@pytest.fixture(scope="module")
def places():
    """Of a red, a green and a blue spot in each frame: (t, 3, 2)."""
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(10, WIDTH - 10, (FRAMES, 3)), rng.integers(10, HEIGHT - 10, (FRAMES, 3))], -1)


@pytest.fixture(scope="module")
def frames(places):
    images = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for frame, spots in enumerate(places):
        for channel, (x, y) in enumerate(spots):
            images[frame, y - 3 : y + 4, x - 3 : x + 4, channel] = 255
    return images


@pytest.fixture
def video(tmp_path, frames):
    write_video(tmp_path / "video.mp4", frames, 25)
    return tmp_path / "video.mp4"


def check_places(keypoints, places):
    """Blue is COCO's point 0, ours 0; green COCO's 1, ours 15; red COCO's 2, ours 14."""
    found = keypoints.points[:, [14, 15, 0]] * (keypoints.width, keypoints.height)
    np.testing.assert_allclose(found, places, atol=4)


def test_a_video(tmp_path, model, video, places):
    steps = []
    result = extract(video, model, output=tmp_path / "pose.npz", progress=lambda *step: steps.append(step))
    assert (len(result), result.height, result.width, result.fps) == (FRAMES, HEIGHT, WIDTH, 25)
    check_places(result, places)
    assert steps == [(0, 12), (5, 12), (10, 12), (12, 12)]
    saved = load_keypoints(tmp_path / "pose.npz")
    np.testing.assert_array_equal(saved.points, result.points)
    np.testing.assert_array_equal(saved.scores, result.scores)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pose.npz", "video.mp4"]

    # What the model finds in the decoded frames, in one batch.
    people = model(read_video(video).frames)
    np.testing.assert_array_equal(result.points, follow(people, height=HEIGHT, width=WIDTH).points)
    short = extract(video, model, num_frames=3)
    np.testing.assert_array_equal(short.points, result.points[:3])


def test_images_and_animations(tmp_path, model, frames, places):
    write_video(tmp_path / "frames", frames, 25)
    (tmp_path / "frames" / "notes.txt").touch()
    from_folder = extract(tmp_path / "frames", model)
    assert (len(from_folder), from_folder.fps) == (FRAMES, None)
    check_places(from_folder, places)
    Image.fromarray(frames[3]).save(tmp_path / "still.png")
    still = extract(tmp_path / "still.png", model)
    assert (len(still), still.fps) == (1, None)
    np.testing.assert_array_equal(still.points[0], from_folder.points[3])
    write_video(tmp_path / "moving.gif", frames, 10)
    moving = extract(tmp_path / "moving.gif", model)
    assert (len(moving), moving.fps) == (FRAMES, 10)
    check_places(moving, places)


class TwoPeople:
    """A model by which one person stands on the left and a larger one, of lesser scores, on the right."""

    batch_size, paths, resolution = 4, (), None

    def __call__(self, frames):
        rng = np.random.default_rng(0)
        shape = rng.uniform(0, 0.2, (134, 2))
        points, scores = np.stack([shape + 0.1, 2 * shape + 0.5]), np.stack([np.full(134, 0.9), np.full(134, 0.5)])
        return [People(points=points, scores=scores) for _ in frames]


def test_the_person_to_follow(video):
    left = extract(video, TwoPeople())
    right = extract(video, TwoPeople(), choose="largest")
    assert left.points.max() < 0.4 < right.points.min()
    np.testing.assert_array_equal(extract(video, TwoPeople(), choose=1).points, right.points)
    with pytest.raises(ValueError, match="person 2 asked for"):
        extract(video, TwoPeople(), choose=2)


class Counted:
    """The model, counting frames, and interrupted after so many."""

    def __init__(self, model, most=None):
        self.model, self.most, self.frames = model, most, 0
        self.batch_size, self.paths, self.resolution = model.batch_size, model.paths, model.resolution

    def __call__(self, frames):
        if self.most is not None and self.frames >= self.most:
            raise KeyboardInterrupt
        self.frames += len(frames)
        return self.model(frames)


def interrupted(video, model, output):
    """Begin, and stop after two batches."""
    with pytest.raises(KeyboardInterrupt):
        extract(video, Counted(model, 10), output=output)
    assert not output.exists()
    return output.with_name(f".{output.name}.partial")


def test_an_interrupted_extraction_goes_on(tmp_path, model, video):
    whole = extract(video, model, output=tmp_path / "whole.npz")
    output = tmp_path / "pose.npz"
    partial = interrupted(video, model, output)
    assert partial.exists()
    steps, counted = [], Counted(model)
    result = extract(video, counted, output=output, progress=lambda done, _: steps.append(done))
    assert (counted.frames, steps) == (2, [10, 12])
    np.testing.assert_array_equal(result.points, whole.points)
    assert output.read_bytes() == (tmp_path / "whole.npz").read_bytes() and not partial.exists()


def test_a_torn_end_is_done_again(tmp_path, model, video):
    whole = extract(video, model)
    output = tmp_path / "pose.npz"
    partial = interrupted(video, model, output)
    for lost, expected in ((1, 3), (5000, 4), (0, 2), (10**9, 12)):
        content = partial.read_bytes()
        partial.write_bytes(content[: max(0, len(content) - lost)])
        counted = Counted(model)
        np.testing.assert_array_equal(extract(video, counted, output=output).points, whole.points)
        assert counted.frames == expected
        output.unlink()
        partial.write_bytes(content)


def test_another_source_or_model_begins_anew(tmp_path, model, video, networks, frames):
    output = tmp_path / "pose.npz"
    interrupted(video, model, output)
    counted = Counted(DWPose(*networks, device="cpu", resolution=128))
    extract(video, counted, output=output)
    assert counted.frames == FRAMES

    interrupted(video, model, output.with_name("other.npz"))
    write_video(video, frames[::-1], 25)
    counted = Counted(model)
    extract(video, counted, output=output.with_name("other.npz"))
    assert counted.frames == FRAMES


def test_killed_in_the_middle(tmp_path, model, video, networks):
    """The kernel ends the process, without a chance to tidy up."""
    code = (
        "import os, signal, sys; from aa_jax.pose.dwpose import DWPose; from aa_jax.pose.extract import extract\n"
        "def progress(done, _):\n"
        "    if done >= 10: os.kill(os.getpid(), signal.SIGKILL)\n"
        "model = DWPose(*sys.argv[2:4], batch_size=5, device='cpu')\n"
        "extract(sys.argv[1], model, output=sys.argv[4], progress=progress)"
    )
    words = [str(word) for word in (video, *networks, tmp_path / "pose.npz")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True)
    assert done.returncode == -9, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [".pose.npz.partial", "video.mp4"]
    counted = Counted(model)
    result = extract(video, counted, output=tmp_path / "pose.npz")
    assert counted.frames == 2
    np.testing.assert_array_equal(result.points, extract(video, model).points)


def test_sources_that_cannot_be_read(tmp_path, model, video, frames):
    output = tmp_path / "pose.npz"
    cut = tmp_path / "cut.mkv"
    remux(video, cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "mixed", frames[:3], 25)
    Image.fromarray(frames[0, :50]).save(tmp_path / "mixed" / "00009.png")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist, expected a video"):
        extract(tmp_path / "none.mp4", model, output=output)
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read as a video"):
        extract(tmp_path / "text.mp4", model, output=output)
    with pytest.raises(ValueError, match="empty holds no images"):
        extract(tmp_path / "empty", model, output=output)
    with pytest.raises(ValueError, match=r"cut\.mkv is .*cut short"):
        extract(cut, model, output=output)
    with pytest.raises(ValueError, match=r"mixed holds frames of different sizes.* frame 3 is 96x50"):
        extract(tmp_path / "mixed", model, output=output)
    assert sorted(tmp_path.iterdir()) == before


def remux(source, target):
    """The same packets in Matroska, which announces its length at the start."""
    import av

    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


def test_outputs_and_arguments_that_cannot_be(tmp_path, model, video):
    with pytest.raises(ValueError, match=r"pose\.npy does not end in \.npz"):
        extract(video, model, output=tmp_path / "pose.npy")
    with pytest.raises(FileNotFoundError, match="nowhere is not an existing folder"):
        extract(video, model, output=tmp_path / "nowhere" / "pose.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        extract(video, model, output=tmp_path / "folder.npz")
    with pytest.raises(ValueError, match="num_frames is 0"):
        extract(video, model, num_frames=0)
    with pytest.raises(ValueError, match="choose 'tallest' given, expected one of best"):
        extract(video, model, choose="tallest")


def test_a_full_disk(tmp_path, model, video):
    """Nothing under the final name; what was done before stays, and the extraction goes on when there is room."""
    output = tmp_path / "pose.npz"
    with largest_file(20_000), pytest.raises(OSError, match=r"cannot write .*pose\.npz.*: File too large"):
        extract(video, model, output=output)
    assert not output.exists()
    counted = Counted(model)
    extract(video, counted, output=output)
    assert 0 < counted.frames < FRAMES
