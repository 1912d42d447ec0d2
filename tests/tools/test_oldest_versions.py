"""The oldest versions that setup.cfg allows."""

import configparser

import pytest

from tools.oldest_versions import SETUP, main, oldest, requirements

EXTRAS = configparser.ConfigParser()
EXTRAS.read(SETUP)


@pytest.mark.parametrize("extra", EXTRAS["options.extras_require"])
def test_every_requirement_has_a_lower_bound(extra, capsys):
    assert main([extra]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert all(line.count("==") == 1 for line in lines) and names[0] == "jax" and "numpy" in names


def test_extras_follow_the_core():
    core, more = requirements([]), requirements(["pose", "docs"])
    assert more[: len(core)] == core and [line.partition(">")[0] for line in more[len(core) :]] == [
        "onnxruntime", "sphinx", "myst-parser", "furo",
    ]  # fmt: skip
    assert not any(line.startswith("aa_jax") for line in requirements(["test"]))


def test_bounds():
    assert oldest("jax[cuda13]>=0.10") == "jax==0.10" and oldest("torch==2.13.0") == "torch==2.13.0"
    with pytest.raises(ValueError, match="'numpy' has no lower bound"):
        oldest("numpy")


def test_no_such_extra(capsys):
    assert main(["poses"]) == 2
    assert "extra 'poses' given, expected one of cuda13" in capsys.readouterr().err
