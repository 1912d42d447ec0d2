"""The benchmark of memory runs, and its plans keep to their budgets."""

import json

import pytest

from benchmarks import memory


def test_plans_and_a_run(tmp_path, capsys):
    output = tmp_path / "memory.json"
    memory.main(
        [
            "--scale",
            "tiny",
            "--sizes",
            "64x64",
            "--frames",
            "4",
            "--budgets",
            "2",
            "--run",
            "2x64x64",
            "--output",
            str(output),
        ]
    )
    figures = json.loads(output.read_text())
    free, *kept = figures["sizes"]["64x64"]
    assert free["budget"] is None
    assert [row["total"] <= row["budget"] for row in kept] == [True, True]
    run = figures["run"]
    assert run["before"] <= run["peak_resident"] and run["plan"] == pytest.approx(free["total"], rel=0.5)
    assert "4 frames 64x64, budget none" in capsys.readouterr().out
