"""What the wheel holds, and what is said of it."""

import configparser
import re
from fnmatch import fnmatch

import aa_jax
from tests.pages import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def test_every_file_of_the_package_is_in_the_wheel():
    listed = {
        f"{package.replace('.', '/')}/{pattern.strip()}"
        for package, patterns in SETUP["options.package_data"].items()
        for pattern in patterns.split(",")
    }
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "aa_jax").rglob("*") if path.is_file()]
    others = [name for name in files if not name.endswith((".py", ".pyc"))]
    assert len(others) >= 2
    assert [name for name in others if not any(fnmatch(name, pattern) for pattern in listed)] == []


def test_types_are_shipped():
    assert (ROOT / "aa_jax" / "py.typed").is_file() and "Typing :: Typed" in SETUP["metadata"]["classifiers"]


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, flags=re.M)[0] == aa_jax.__version__


def test_the_core_is_small():
    """None of the heavy or optional packages is among the requirements that everybody gets."""
    core = re.findall(r"^([\w-]+)>=", SETUP["options"]["install_requires"], flags=re.M)
    assert len(core) <= 14
    assert not {"torch", "diffusers", "transformers", "tensorflow", "gradio", "onnxruntime"} & set(core)
