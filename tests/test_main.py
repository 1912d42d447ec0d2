"""The one command of the package: its table of verbs, its help, and what it passes on."""

import configparser
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aa_jax
from aa_jax import cli
from aa_jax.__main__ import GROUPS, VERBS, Verb, main

ROOT = Path(__file__).parents[1]


EXTRAS = [module for modules in cli.EXTRAS.values() for module in modules if module not in ("optax", "orbax")]


def test_every_verb_is_there():
    """Also where the core alone is installed (with flax, which brings optax and orbax)."""
    code = (
        f"import importlib, sys; sys.modules.update(dict.fromkeys({EXTRAS})); "
        f"print([callable(importlib.import_module(name).main) for name in {[verb.module for verb in VERBS.values()]}])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == str([True] * len(VERBS))


def test_a_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for module in ("aa_jax.data.builders", "aa_jax.data.prepare", "aa_jax.data.encode"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert main(["data", "prepare", "synthetic", "--num-clips", "1", "--output", str(tmp_path / "data")]) == 2
    said = "data: tensorflow_datasets is missing: pip install 'aa_jax[train]'\n"
    assert capsys.readouterr().err == said and not list(tmp_path.iterdir())
    monkeypatch.setitem(VERBS, "info", Verb(module="tensorflow_datasets", summary=""))
    assert main(["info"]) == 2 and capsys.readouterr().err == f"aa-jax info: {said[6:]}"
    monkeypatch.setitem(VERBS, "info", Verb(module="aa_jax.nothing", summary=""))
    assert main(["info"]) == 2 and "No module named 'aa_jax.nothing'" in capsys.readouterr().err


def test_extras_are_the_packages():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra, modules in cli.EXTRAS.items():
        listed = re.findall(r"^([\w-]+)", setup["options.extras_require"][extra], flags=re.M)
        assert set(modules) == {name.replace("-", "_").removesuffix("_checkpoint") for name in listed}


def test_help_names_every_verb_once(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for group in GROUPS.values():
        for name, verb in group.items():
            assert said.count(f"  {name:10}{verb.summary}\n") == 1
    assert len(VERBS) == sum(map(len, GROUPS.values())) and max(map(len, said.splitlines())) <= 120
    assert len(said.splitlines()) < 40


def test_help_imports_no_verb():
    """It comes at once: nothing heavy is imported for it."""
    code = (
        "import sys; from aa_jax.__main__ import main; main(['--help']); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'jax', 'numpy', 'PIL', 'tqdm', 'cv2'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.splitlines()[-1] == ""


def test_a_verb_gets_its_arguments_and_gives_its_code(monkeypatch):
    module = importlib.import_module(VERBS["info"].module)
    monkeypatch.setattr(module, "main", lambda arguments: [7, *arguments].index("--json"))
    assert main(["info", "model/", "--json"]) == 2
    assert main(["info", "--json"]) == 1


def test_the_present_folder_is_imported_from(monkeypatch, tmp_path):
    """As with `python -m`, also where an installed command's path is that of its own folder."""
    (tmp_path / "beside_the_user.py").write_text("def main(arguments):\n    return len(arguments)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setitem(VERBS, "info", Verb(module="beside_the_user", summary=""))
    assert main(["info", "a", "b", "c"]) == 3


@pytest.mark.parametrize(("words", "expected"), [([], "no verb given"), (["walk"], "'walk' given")])
def test_no_such_verb(words, expected, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert expected in printed.err and "expected one of animate, batch" in printed.err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"aa-jax {aa_jax.__version__}\n"


def test_the_installed_command_is_this_one(monkeypatch, capsys):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, target = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    assert name == "aa-jax" and getattr(importlib.import_module(module), function)() == 0
    assert capsys.readouterr().out.startswith("aa-jax ")
