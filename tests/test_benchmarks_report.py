"""Tables and pictures of measurements that were made up."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import report

VIDEO = {"height": 784, "width": 512, "frames": 24, "steps": 20, "dtype": "bfloat16"}
SECONDS = {"median": 4.0, "least": 3.9, "most": 4.2, "all": [3.9, 4.0, 4.2]}
GIB = 2**30


def sweep(of, **changed):
    figures = {
        "seconds": 8.0, "frames_per_second": 3.0, "flops": 1.6e15, "compile_seconds": 61.0, "peak_bytes": 10 * GIB,
    }  # fmt: skip
    return {"kind": "sweep", "of": of, **VIDEO, **figures, **changed}


def training(devices, speed, **changed):
    return {
        "kind": "training", "stage": "stage2", **VIDEO, "batch_size": 4, "remat": "layers", "devices": devices,
        "fits": True, "seconds": SECONDS, "samples_per_second": speed, "teraflops_per_second": 300.0, "mfu": 0.31,
        "peak_bytes": 70 * GIB, "planned_bytes": 71 * GIB, **changed,
    }  # fmt: skip


RECORDS = [
    {
        "kind": "machine", "versions": {"jax": "1.2.3"}, "packages": {"torch": "4.5"},
        "devices": {"count": 1, "kind": "Some GPU"},
    },  # fmt: skip
    {"kind": "limits", "teraflops": 800.0, "flops": 8e14, "bytes_per_second": 4e12, "dtype": "bfloat16", "square": 9},
    {"kind": "cold", **VIDEO, "compile_seconds": {"advance": 60.0, "decode": 12.0}, "first_seconds": 90.0},
    {"kind": "warm", "how": "cache", **VIDEO, "compile_seconds": {"advance": 6.0}, "first_seconds": 12.0},
    {
        "kind": "end_to_end", **VIDEO, "seconds": SECONDS, "teraflops_per_second": 400.0, "frames_per_second": 6.0,
        "flops": 1.6e15, "peak_bytes": 20 * GIB, "program_seconds": {"advance": 3.0, "decode": 1.0},
        "program_flops": {"advance": 1.5e15, "decode": 1e14},
        "program_memory": {"advance": {"temp_size_in_bytes": 3 * GIB}},
    },
    {"kind": "evaluation", **VIDEO, "seconds": SECONDS, "flops": 9e13, "teraflops_per_second": 450.0},
    {
        "kind": "group", "group": "norms", **VIDEO, "calls": 7, "seconds": 0.02, "flops": 0.0, "bytes": 4e10,
        "teraflops_per_second": 0.0, "operations_per_byte": 0.0,
    },
    {
        "kind": "group", "group": "ResNet convolutions", **VIDEO, "calls": 5, "seconds": 0.06, "flops": 2.4e13,
        "bytes": 4e9, "teraflops_per_second": 400.0, "operations_per_byte": 6000.0,
    },
    {"kind": "traced_group", "group": "norms", **VIDEO, "seconds": 0.03},
    {"kind": "traced", **VIDEO, "seconds": 0.2, "busy_seconds": 0.12},
    {
        "kind": "peer", "peer": "diffusers", "compiled": True, **VIDEO, "seconds": {"median": 10.0},
        "psnr_to_ours": 41.0, "peak_bytes": 30 * GIB,
    },
    sweep("frames"),
    sweep("frames", frames=48, seconds=16.0),
    sweep("sizes"),
    sweep("steps"),
    {
        "kind": "precision", "model": "random", **VIDEO, "products": "highest", "dtype": "float32", "seconds": 50.0,
        "psnr_to_float32": 100.0,
    },
    {
        "kind": "precision", "model": "random", **VIDEO, "products": None, "seconds": 4.0, "psnr_to_float32": 38.25,
    },
    training(1, 2.0),
    training(1, 3.0, remat="none", fits=False),
    {"kind": "tests", "summary": "3 passed in 9 s", "exit_code": 0},
]  # fmt: skip


@pytest.fixture
def results(tmp_path):
    def write(name, records):
        part = {"status": "done", "seconds": 1.0, "records": records}
        about = {
            "date": "2026-01-02", "command": "python -m benchmarks.gpu", "git": {"commit": "abc"}, "scale": "full",
            "seconds": 1.0, "parts": {"all": part, "rest": {"status": "left out", "seconds": 0, "records": []}},
        }  # fmt: skip
        (tmp_path / name).write_text(json.dumps(about))
        return tmp_path / name

    return write


def test_all_that_was_measured_is_shown(results, tmp_path):
    first, second = results("one.json", RECORDS), results("two.json", [training(2, 3.8)])
    written = report.report([first, second], tmp_path / "report")
    text = written[0].read_text()
    for line in (
        "1 x Some GPU; jax 1.2.3, torch 4.5.",
        "| 24 frames, 784x512, 20 steps | bfloat16 | 4.00 s (3.90 to 4.20, 3) | 6.0 | 1600 | 400 | 50 % | 20.0 GiB |",
        "| 24 frames, 784x512, 20 steps | decoding | 1.000 s | 100 | 100 | – |",
        "| 24 frames, 784x512, 20 steps | compiled anew | 72.0 s | 90.0 s |",
        "| 24 frames, 784x512, 20 steps | from JAX's cache | 6.0 s | 12.0 s |",
        # Half of the time that the products would take, and half of what the bytes would.
        "| ResNet convolutions | 5 | 24 | 4 | 60.00 ms | 75 % | 400 | 0.07 | 50 % |",
        "| norms | 7 | 0 | 40 | 20.00 ms | 25 % | 0 | 2.00 | 50 % |",
        "| norms | 30.00 ms | 25 % |",
        "| diffusers, torch.compile | 24 frames, 784x512, 20 steps | bfloat16 | 10.00 s | 2.50 | 30.0 GiB | 41 dB |",
        "| 48 frames, 784x512, 20 steps | 16.00 s | 3.00 | 100 | 61 s | 10.0 GiB |",
        "| random | 24 frames, 784x512, 20 steps | bfloat16 | 4.00 s | 38.2 dB |",
        "| stage2 | 4 x 24, 784x512 | layers | 4.00 s | 2.00 | 300 | 31 % | 70.0 GiB |",
        "| stage2 | 4 x 24, 784x512 | none | does not fit | – | – | – | 71.0 GiB |",
        "Tests on the device: 3 passed in 9 s.",
        "Not measured in full: rest (left out).",
    ):
        assert line in text, text
    names = {"roofline", "cost_by_frames", "cost_by_size", "cost_by_steps", "training_by_devices"}
    assert {path.stem for path in written[1:]} == names
    for path in written[1:]:
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path


def test_what_a_cpu_did_stands_beside_it(tmp_path):
    figures = {
        "machine": "Some CPU", "threads": 2, "size": 256, "frames": 4, "ratio": 0.87,
        "seconds": {"aa_jax": [8.7, 8.8], "PyTorch": [10.0, 10.2]},
        "peak_bytes": {"aa_jax": 14 * GIB, "PyTorch": 7 * GIB},
    }  # fmt: skip
    (tmp_path / "cpu.json").write_text(json.dumps(figures))
    (written,) = report.report([tmp_path / "cpu.json"], tmp_path / "report")
    row = "| 4 frames, 256x256, 2 threads, Some CPU | 8.75 s | 10.10 s | 0.87 | 14.0 GiB | 7.0 GiB |"
    assert row in written.read_text()


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"parts": 3}', '{"a": 1}'])
def test_what_is_no_result_is_named(content, tmp_path, monkeypatch, capsys):
    if content:
        (tmp_path / "results.json").write_text(content)
    command = ["benchmarks.report", str(tmp_path / "results.json"), "--output", str(tmp_path / "report")]
    monkeypatch.setattr("sys.argv", command)
    assert report.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "results.json" in line
    assert not (tmp_path / "report").exists()
