import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from aa_jax.training.log import Progress, RunLog, describe_run


def lines(folder):
    def no_constant(text):
        raise AssertionError(f"{text} is no JSON")

    text = (folder / "metrics.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=no_constant) for line in text.splitlines()]


def events(folder):
    """Of all event files: records of 8 bytes length, 4 bytes checksum, the event, 4 bytes checksum."""
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_scalars_are_lines_and_events(tmp_path):
    with RunLog(tmp_path / "run", resumed_at=None) as log:
        log.scalars(1, {"loss": np.float32(0.5), "gradient/norm": 2.0})
        (first,) = lines(tmp_path / "run")  # before it is closed
        log.scalars(2, {"loss": math.nan, "rate": math.inf})
    assert first.pop("time") == pytest.approx(1.76e9, rel=0.5)
    assert first == {"step": 1, "loss": 0.5, "gradient/norm": 2.0}
    second = lines(tmp_path / "run")[1]
    assert (second["step"], second["loss"], second["rate"]) == (2, None, None)
    scalars = [(event.step, value.tag, value.simple_value) for event in events(tmp_path / "run")
               for value in event.summary.value]  # fmt: skip
    assert sorted(scalars) == [(1, "gradient/norm", 2.0), (1, "loss", 0.5)]


def test_images_are_files_and_events(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    with RunLog(tmp_path, resumed_at=None) as log:
        log.images(20, "validation/first", image)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["validation_first_20.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "images" / "validation_first_20.png")), image)
    ((step, value),) = [(event.step, value) for event in events(tmp_path) for value in event.summary.value]
    assert (step, value.tag, value.image.height, value.image.width) == (20, "validation/first", 6, 9)


def test_resuming_drops_what_comes_again(tmp_path):
    with RunLog(tmp_path, resumed_at=None) as log:
        for step in range(1, 7):
            log.scalars(step, {"loss": float(step)})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')  # cut by a crash
    with RunLog(tmp_path, resumed_at=4) as log:
        assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
        log.scalars(5, {"loss": -5.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, -5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts[-1] == 5  # TensorBoard forgets earlier events from here on


@pytest.mark.parametrize("cut", ['{"step": 3, "loss": 0.1}', "[1]\n", '{"loss": 1}\n', "\0\0\0\n", '{"step": null}\n'])
def test_a_damaged_line_is_dropped(tmp_path, cut):
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "loss": 0.5}\n' + cut)
    with RunLog(tmp_path, resumed_at=3):
        assert lines(tmp_path) == [{"step": 3, "loss": 0.5}]


def test_a_run_that_starts_anew_has_no_old_figures(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 0.5}\n')
    with RunLog(tmp_path, resumed_at=None):
        assert lines(tmp_path) == []


def test_trimming_replaces_the_file_at_once(tmp_path, monkeypatch):
    before = '{"step": 1}\n{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_text(before)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="metrics.jsonl: No space left"):
        RunLog(tmp_path, resumed_at=1)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_progress_shows_figures(capsys):
    with Progress(8, 2, batch_size=4, flops_per_step=30.0, peak_flops=600.0) as progress:
        progress.update(3, 0.12345)
        progress._bar.start_t -= 10.0
        progress._bar.last_print_t -= 10.0
        progress.update(7, 0.5)
    shown = capsys.readouterr().err
    assert "loss 0.5" in shown and "7/8" in shown
    rate, samples, mfu = map(float, re.findall(r"([\d.]+) steps/s, ([\d.]+) samples/s, MFU ([\d.]+)%", shown)[-1])
    assert rate == pytest.approx(5 / 10, rel=0.3)
    assert samples == pytest.approx(4 * rate, rel=0.01)
    assert mfu == pytest.approx(100 * rate * 30 / 600, rel=0.05)


def test_progress_without_peak_shows_no_utilisation(capsys):
    with Progress(2, 0, batch_size=1, flops_per_step=1.0, peak_flops=None) as progress:
        progress.update(1, 1.0)
    shown = capsys.readouterr().err
    assert "loss 1" in shown and "MFU" not in shown


def test_progress_can_be_silent(capsys):
    with Progress(2, 0, batch_size=1, flops_per_step=1.0, peak_flops=1.0, disable=True) as progress:
        progress.update(1, 1.0)
    assert capsys.readouterr() == ("", "")


def test_description_of_a_run(tmp_path):
    config = {"seed": 1, "data": {"folder": Path("videos"), "sizes": (1, 2)}}
    paths = [describe_run(tmp_path / "run", config) for _ in range(3)]
    assert [path.name for path in paths] == ["run.json", "run_1.json", "run_2.json"]
    found = json.loads(paths[0].read_text())
    assert found["config"] == {"seed": 1, "data": {"folder": "videos", "sizes": [1, 2]}}
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) == {"aa_jax", "python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"}
    assert found["devices"]["count"] >= 1 and found["devices"]["processes"] == 1
    assert found["command"][0] and found["started"].startswith("20")
