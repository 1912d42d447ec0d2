"""The measurements at a size that means nothing: that they come to an end, and become tables and pictures."""

import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from aa_jax.training.flops import count_flops
from benchmarks import report
from benchmarks.gpu import __main__ as driver
from benchmarks.gpu import trace
from benchmarks.gpu.calls import calls, evaluation
from benchmarks.gpu.job import Job, read_records, repeated, spread
from benchmarks.gpu.layers import _work
from benchmarks.gpu.parts import Part, parts
from benchmarks.gpu.scale import SCALES, TINY
from benchmarks.random_weights import NUMBERS, random_weight

SIZE = {"height": 72, "width": 64}


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Run parts; the results."""

    def run(*chosen, minutes=5):
        monkeypatch.setattr(driver, "parts", lambda scale: list(chosen))
        command = [
            "benchmarks.gpu", "--output", tmp_path / "results.json", "--scale", "tiny", "--work", tmp_path / "work",
            "--budget-minutes", minutes,
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        assert driver.main() == 0
        return json.loads((tmp_path / "results.json").read_text())

    return run


def test_a_video_end_to_end_becomes_tables(measure, tmp_path):
    results = measure(
        Part(name="machine", module="machine"),
        Part(name="end_to_end", module="end_to_end", options=SIZE),
        Part(name="diffusers", module="diffusers", options={**SIZE, "compiled": False}, in_torch=True),
        Part(name="moore", module="moore", needs=("moore",)),
    )
    statuses = {name: part["status"] for name, part in results["parts"].items()}
    assert statuses == {"machine": "done", "end_to_end": "done", "diffusers": "done", "moore": "left out"}, results
    cold, whole, saved = results["parts"]["end_to_end"]["records"]
    assert cold["first_seconds"] > whole["seconds"]["median"] > 0
    assert sum(cold["compile_seconds"].values()) > 0 and saved["programs"] == 4
    assert whole["program_calls"] == {"encode_reference": 1, "encode_poses": 1, "advance": 1, "decode": 1}
    assert whole["flops"] == sum(whole["program_flops"].values())
    assert np.load(tmp_path / "work" / "video_72x64.npy").shape == (2, 72, 64, 3)
    (peer,) = results["parts"]["diffusers"]["records"]
    assert peer["psnr_to_ours"] > 60  # the same work, in float32
    assert str(tmp_path) not in (tmp_path / "results.json").read_text()
    written = report.report([tmp_path / "results.json"], tmp_path / "report")
    text = written[0].read_text()
    assert "| 2 frames, 72x64, 2 steps | float32 |" in text and "Not measured in full: moore (left out)." in text


def test_a_part_that_fails_or_hangs_takes_nothing_with_it(measure):
    failing = Part(name="start", module="start", options=SIZE)  # what it starts from is not there
    slow = Part(name="layers", module="layers", options=SIZE, most=0.5)
    machine = Part(name="machine", module="machine")
    found = measure(failing, slow, machine)["parts"]
    assert {name: part["status"] for name, part in found.items()} == {
        "start": "failed", "layers": "stopped", "machine": "done",
    }  # fmt: skip
    assert "nothing was compiled" in found["start"]["error"]
    # What is done is not done again, and without time nothing is begun, and nothing lost.
    again = measure(failing, slow, machine, minutes=0)["parts"]
    assert again["machine"] == found["machine"]
    assert again["start"]["status"] == "left out"


def test_every_layer_of_an_evaluation_is_found():
    evaluate, arguments = evaluation(TINY, 72, 64)
    found = calls(evaluate, arguments)
    assert len({call.group for call in found}) == 12
    counted = sum(count * _work(call)["flops"] for call, count in found.items())
    assert counted == count_flops(jax.make_jaxpr(evaluate)(*arguments))


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_parts_have_names_of_their_own(scale):
    names = [part.name for part in parts(scale)]
    assert len(set(names)) == len(names) and names[0] == "machine"


def test_an_unknown_part_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--output", "x.json", "--parts", "layer"])
    assert driver.main() == 2
    assert "there is no part layer" in capsys.readouterr().err


def test_records_survive_a_part_that_was_ended(tmp_path):
    job = Job(scale=TINY, options={"a": 1}, work=tmp_path, records=tmp_path / "r.jsonl", deadline=0.0)
    assert Job.of(job.to_json()) == job
    job.record("seen", value=np.float32(2), shape=(1, 2))
    with job.records.open("a") as file:
        file.write('{"kind": "cut o')
    assert read_records(job.records) == [{"kind": "seen", "value": 2.0, "shape": [1, 2]}]
    assert read_records(tmp_path / "none") == []


def test_repeats_end_with_the_time():
    assert len(repeated(lambda: None, 3)) == 3
    assert len(repeated(lambda: None, 3, left=-1)) == 1
    assert spread([3.0, 1.0, 2.0])["median"] == 2


def test_random_weights():
    kernel = random_weight("unet.conv.kernel", (3, 3, 640, 1024))
    assert kernel.size > NUMBERS and abs(kernel.std() * np.sqrt(9 * 640) - 1) < 0.01
    np.testing.assert_array_equal(kernel, random_weight("unet.conv.kernel", (3, 3, 640, 1024)))
    assert abs(random_weight("unet.norm.scale", (320,)).mean() - 1) < 0.1
    assert not np.array_equal(random_weight("a.bias", (8,)), random_weight("b.bias", (8,)))


def test_a_profile_is_told_by_groups_of_layers():
    text = """
  %fusion.1 = f32[8]{0} fusion(%a), kind=kLoop, metadata={op_name="jit(evaluate)/norms/mul" source_line=3}
  ROOT %dot = f32[8]{0} dot(%b, %c), metadata={op_name="jit(evaluate)/in and out, spatial/dot_general"}
  %add = f32[8]{0} add(%b, %c), metadata={op_name="jit(evaluate)/add"}
"""
    groups = trace.groups_of(text)
    assert groups == {"fusion.1": "norms", "dot": "in and out, spatial", "add": trace.BETWEEN}

    def line(name, *events):
        each = [SimpleNamespace(stats=[("hlo_op", op)], duration_ns=1e9 * time) for op, time in events]
        return SimpleNamespace(name=name, events=[*each, SimpleNamespace(stats=[("other", 1)], duration_ns=5)])

    gpu = [line("Stream #1", ("dot", 2), ("fusion.1", 1), ("while.3", 9), ("copy", 4)), line("Sums", ("dot", 2))]
    host = SimpleNamespace(name="/host:CPU", lines=[line("thread", ("dot", 7))])
    planes = [host, SimpleNamespace(name="/device:GPU:0", lines=gpu)]
    expected = {"in and out, spatial": 2, "norms": 1, trace.BETWEEN: 4}
    assert trace.spent(SimpleNamespace(planes=planes), groups) == expected
    assert trace.spent(SimpleNamespace(planes=[host]), groups) == {"in and out, spatial": 7}
