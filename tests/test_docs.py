"""The documentation: it builds, its links lead somewhere, its commands are commands, and some of them are run."""

import ast
import configparser
import importlib
import io
import json
import re
import warnings

import numpy as np
import pytest
from PIL import Image

from aa_jax import animate
from aa_jax.__main__ import VERBS, main
from aa_jax.batch import read_jobs
from aa_jax.pose import Keypoints, save_keypoints
from aa_jax.pose.openpose import save_openpose
from aa_jax.training.config import load_train_config
from aa_jax.training.override import override
from tests.pages import DOCS, PAGES, ROOT, RUN, anchors, blocks, prose
from tests.small_models import write_small_stack
from tools import oldest_versions

MODULES = {verb.module.removesuffix(".__main__"): name for name, verb in VERBS.items()}
SHELL = {
    (page.name, number): block.commands()
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if block.language == "sh" or (block.language == "" and re.match(r"(aa-jax|python -m|pip) ", block.text))
}
FOLDERS = "aa_jax|benchmarks|configs|docs|examples|notebooks|tests|tools|.ci"


def verb_of(words):
    """A verb and its arguments; None where it is no command of this package."""
    if words[0] == "aa-jax":
        return words[1], words[2:]
    if words[:2] == ["python", "-m"] and words[2] in MODULES:
        return MODULES[words[2]], words[3:]
    return None


def parse(verb, arguments):
    """By the verb's own parser, which exits with 2 where an argument is none."""
    parser = importlib.import_module(VERBS[verb].module).parser()
    if verb == "train":
        args, changes = parser.parse_known_args(arguments)
        override(load_train_config(ROOT / args.config), changes)
    elif verb == "batch":
        args, more = parser.parse_known_args(arguments)
        given = ["--model", args.model, "--reference", "a", "--pose", "b", "--output", "c"]
        animate.parser().parse_args([*given, *more])
    else:
        parser.parse_args(arguments)


def check_other(words):
    """Commands of other programs: what they name in this repository is there."""
    program = words[2] if words[:2] == ["python", "-m"] else words[0]
    if program == "pytest":
        paths = [word for word in words[3:] if "/" in word]
        assert all((ROOT / path).exists() for path in paths), words
    elif program == "tools.oldest_versions":
        assert oldest_versions.main(words[3:]) == 0
    elif program == "pip" and "-e" in words:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        extras = re.findall(r"[\w]+", words[words.index("-e") + 1].partition("[")[2])
        assert set(extras) <= set(setup["options.extras_require"]), words
    elif program == "python":
        assert (ROOT / words[1]).is_file(), words
    elif program.startswith("benchmarks."):
        module = ROOT / program.replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), words
    else:
        assert program in ("pip", "git", "cd", "venv", ".", "pre-commit", "ruff", "mypy", "sphinx", "build"), words


@pytest.mark.parametrize("place", SHELL, ids=lambda place: f"{place[0]}-{place[1]}")
def test_commands_are_commands(place, capsys):
    for words in SHELL[place]:
        if "..." in words:
            continue
        found = verb_of(words)
        if found is None:
            check_other(words)
        elif found[0] not in ("--help", "--version"):
            try:
                parse(*found)
            except SystemExit as ended:
                assert ended.code == 0, f"{' '.join(words)}: {capsys.readouterr().err}"  # noqa: PT017


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the pages speak of, small."""
    folder = tmp_path_factory.mktemp("docs")
    write_small_stack(folder / "model")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 64, 3), np.uint8)).save(folder / "person.png")
    for name, frames in (("dance", 3), ("person", 1)):
        points = np.random.default_rng(frames).uniform(0.1, 0.9, (frames, 134, 2))
        pose = Keypoints(points=points, scores=np.ones((frames, 134)), height=80, width=64, fps=12.0)
        save_keypoints(folder / f"{name}.npz", pose)
        if name == "dance":
            save_openpose(folder / "openpose", pose)
    return folder


MARKED = [(page.name, block) for page in DOCS for block in blocks(page) if block.run]
# Those of one page are a story, told by tests/test_bridge.py.
ALONE = [(name, block) for name, block in MARKED if name != "bridge.md"]


@pytest.mark.parametrize("block", [block for _, block in ALONE], ids=[name for name, _ in ALONE])
def test_marked_commands_run(block, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for words in block.commands():
        assert words[0] == "aa-jax" and main(words[1:]) == 0, capsys.readouterr().err
        if "--output" in words:
            assert (folder / words[words.index("--output") + 1]).exists()


def test_marks_are_seen():
    """A mark with anything between it and its block marks nothing."""
    assert len(MARKED) >= 5
    assert len(MARKED) == sum(page.read_text(encoding="utf-8").count(f"\n{RUN}\n") for page in DOCS)


def test_jobs_are_jobs(folder, tmp_path):
    (text,) = [block.text for page in DOCS for block in blocks(page) if block.language == "json"]
    (folder / "jobs.jsonl").write_text(text)
    (job,) = read_jobs(folder / "jobs.jsonl", tmp_path, ["--model", "model/"])
    assert job.options.retarget == json.loads(text)["retarget"]


PYTHON = [(page.name, block.text) for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("text", [text for _, text in PYTHON], ids=[name for name, _ in PYTHON])
def test_what_python_imports_is_there(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"
    named = re.findall(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*\w)", prose(page))
    assert [name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(f"{name}*"))] == []


def test_pages_build(tmp_path):
    """Without a warning: every reference resolves, and every page is in the table of contents."""
    sphinx = pytest.importorskip("sphinx.application")
    said = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generator's own
        app = sphinx.Sphinx(
            ROOT / "docs", ROOT / "docs", tmp_path / "html", tmp_path / "trees", "html", status=None, warning=said,
        )  # fmt: skip
        app.build()
    assert said.getvalue() == ""
    built = {path.stem for path in (tmp_path / "html").glob("*.html")}
    assert {page.stem for page in DOCS} <= built
    assert "guidance_scale" in (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
