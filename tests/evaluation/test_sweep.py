"""The sweep's table: a run of the evaluation for every value, and its scores as they were stored."""

import json
from pathlib import Path

import pytest

from aa_jax import evaluate
from aa_jax.evaluation.report import to_json
from benchmarks import sweep, table


@pytest.mark.usefixtures("quickly_drawn")
def test_every_value_is_a_row(model, recorder, tmp_path, capsys, monkeypatch):
    def call(module, *words):
        assert module == "aa_jax.evaluate"
        evaluate.evaluate(evaluate.parser().parse_args(list(map(str, words))))

    monkeypatch.setattr(sweep, "call", call)
    monkeypatch.setattr(sweep, "METRICS", ("psnr", "foreground_psnr"))
    words = [
        "sweep",
        "--model",
        model,
        "--output",
        tmp_path,
        "--num-clips",
        2,
        "--guidance-scales",
        1.5,
        "--steps",
        1,
        3,
        "--modes",
        "turbo",
    ]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    sweep.main()
    found = [
        tuple(options[name] for name in ("guidance_scale", "num_inference_steps", "sampler", "reuse"))
        for *_, options in recorder.calls
    ]
    values = [(1.5, None, None, None), (None, 1, None, None), (None, 3, None, None), (None, 10, "dpm++", 2)]
    assert found == [value for value in values for _ in range(2)]
    text, facts = (tmp_path / "table.md").read_text(), json.loads((tmp_path / "table.json").read_text())
    assert capsys.readouterr().out.endswith(text)
    assert [line.split(" | ")[0] for line in text.splitlines() if "[" in line and line.startswith("|")] == [
        "| guidance 1.5", "| steps 1", "| steps 3", "| mode turbo",
    ]  # fmt: skip
    assert facts["num_clips"] == 2 and facts["model"] == str(model)

    folder = tmp_path / "steps" / "3"
    results = table.load_results(Path(folder))
    assert json.loads(to_json(results)) == json.loads((folder / "scores.json").read_text())
    assert facts["sweeps"]["steps"]["steps 3"]["psnr"]["value"] == results.estimates["psnr"].value
