"""Whole runs of the VAE's stage: interrupted, spread over devices and processes, failing, exported."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from PIL import Image

from aa_jax import train as program
from aa_jax.animator import Animator
from aa_jax.data.folder import FolderSource
from aa_jax.data.pipeline import Samples
from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.preprocess import vae_pixels
from aa_jax.tensor_file import read_tensors
from aa_jax.training import loop, setup
from aa_jax.training.config import DataConfig, OptimizerConfig, Start, TrainConfig, ValidationConfig
from aa_jax.training.objective import Losses
from aa_jax.weights import load_config, load_network, verify_checksums
from tests.datasets.videos import picture
from tests.training import tiny
from tests.training.runs import BATCH, FRAMES, SIDE, STEPS, command, config, free_port, lines, saved, start, write_clips

# Orbax closes event loops of its own late.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """`clips/`, `held_out/`, and the runs that several tests look at; `cache/` has what was compiled for them."""
    folder = tmp_path_factory.mktemp("runs")
    write_clips(folder / "clips", 24)
    write_clips(folder / "held_out", 2, seed=100)
    cache = {
        "jax_compilation_cache_dir": str(folder / "cache"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in cache}
    for settings in (cache, before):
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if settings is cache:
            yield folder


def run(clips, workdir, *changes) -> int:
    return program.main(command(clips, workdir, "--quiet", *changes))


def finish(process, *, errors="") -> list[str]:
    out, found = process.communicate(timeout=400)
    assert errors is None or found == errors
    return out.splitlines()


@pytest.fixture(scope="module")
def whole(place):
    """All steps in one go, in this process. The lowest PSNR counts as the best, so that the best is not the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "score", lambda figures: -figures["psnr"])
        assert run(place / "clips", place / "whole") == 0
    return place / "whole"


@pytest.fixture(scope="module")
def stopped(place):
    """Two runs on one device: one was asked to stop after step 3, one was killed then."""
    runs = [
        ("TERM 2", command(place / "clips", place / "asked")),
        ("KILL 3", command(place / "clips", place / "killed", "--quiet")),
    ]
    process = start(runs, cache=place / "cache")
    said = finish(process, errors=None)
    assert process.returncode == -9
    return said


def assert_same_run(one, other, step=STEPS):
    """Weights, moments, average, figures and exported files, to the bit."""
    assert_same_arrays(saved(one, step), saved(other, step))
    assert lines(one) == lines(other)
    for path in sorted((one / "model").iterdir()):
        if path.name == "README.md":  # tells the names of the runs
            continue
        assert path.read_bytes() == (other / "model" / path.name).read_bytes(), path.name


def assert_same_arrays(one, other):
    assert one.keys() == other.keys() and len(one) > 100
    for name, array in one.items():
        assert array.dtype == other[name].dtype and array.tobytes() == other[name].tobytes(), name


def assert_close(found, expected):
    """Lines of figures, those of validation after rounding to bytes."""
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-5)


def largest_difference(one, other) -> float:
    """Of an array, relative to its own largest value, or to a tenth of the largest of its kind (weights, averages,
    moments) where that is more: some parameters have no gradient but rounding."""
    assert one.keys() == other.keys()
    kinds = [name.partition("vae.")[0] for name in one]
    largest = {kind: max(np.abs(one[name]).max() for name in one if name.startswith(kind)) for kind in kinds}
    return max(
        float(np.abs(array.astype(np.float64) - other[name]).max() / max(np.abs(array).max(), largest[kind] / 10))
        for kind, (name, array) in zip(kinds, one.items(), strict=True)
    )


def test_a_run(whole):
    assert sorted(path.name for path in whole.iterdir()) == [
        "checkpoints", "images", "metrics.jsonl", "model", "run.json", "tensorboard"
    ]  # fmt: skip
    found = lines(whole)
    assert [line["step"] for line in found] == [1, 2, 2, 3, 4, 4]
    losses = [line["loss"] for line in found if "loss" in line]
    assert losses[-1] < losses[0] / 1.1
    arrays = saved(whole, STEPS)
    assert arrays["step"] == STEPS
    moved = [name for name in arrays if name.startswith("trained.") and name.endswith("kernel")]
    assert moved and all((arrays[name] != arrays[name.replace("trained.", "ema.")]).any() for name in moved)


def test_validation(place, whole):
    """Figures recomputed from the exported weights; the best and the last checkpoint are kept."""
    figures = {line["step"]: line for line in lines(whole) if "validation/psnr" in line}
    assert figures.keys() == {2, 4}
    assert figures[2]["validation/psnr"] < figures[4]["validation/psnr"]
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {"2", "4"}  # 2 is the best, keep_last is 1

    truth = [FolderSource(place / "held_out")[index].frames(range(3)) for index in range(2)]
    found, copied = [], []
    network = load_network(whole / "model", "vae")
    for frames in truth:
        decoded = network.decode(network.encode(vae_pixels(frames)[0]).mean)
        found.append(psnr(np.clip(np.asarray(decoded) * 127.5 + 127.5, 0, 255), frames))
        copied.append(psnr(FolderSource(place / "held_out")[len(copied)].frames([FRAMES // 2]), frames))
    assert figures[4]["validation/psnr"] == pytest.approx(np.mean(found), abs=0.05)
    assert figures[4]["validation/copy_psnr"] == pytest.approx(np.mean(copied), abs=1e-4)

    for step in (2, 4):
        with Image.open(whole / "images" / f"validation_{step}.png") as image:
            sheet = np.asarray(image)
        assert sheet.shape == (2 * 3 * SIDE + 4, 4 * SIDE, 3)
        np.testing.assert_array_equal(sheet[2 * SIDE : 3 * SIDE, SIDE : 2 * SIDE], truth[0][0])


def psnr(found, truth) -> float:
    return 10 * math.log10(255**2 / np.square(found.astype(np.float64) - truth).mean())


@pytest.mark.parametrize("given", [None, 4])
def test_export(place, whole, given, tmp_path):
    """The best step by default: averaged weights, and latents of unit variance."""
    step = given or 2
    assert run(place / "clips", whole, "--export", tmp_path / "model", *(["--step", given] if given else [])) == 0
    verify_checksums(tmp_path / "model")
    tensors, arrays = read_tensors(tmp_path / "model" / "vae.safetensors"), saved(whole, step)
    for name, tensor in tensors.items():
        assert np.asarray(tensor).tobytes() == arrays[f"ema.vae.{name}"].tobytes()
    assert len(tensors) == sum(name.startswith("ema.") for name in arrays)

    samples = Samples(FolderSource(place / "clips"), config().data.sample, config().seed)
    references = np.stack([samples[index]["reference"] for index in range(64)])
    latents = load_network(tmp_path / "model", "vae").encode(references / np.float32(127.5) - 1).mean
    scale = load_config(tmp_path / "model").vae.scaling_factor
    assert scale == pytest.approx(1 / float(np.std(latents)), rel=1e-5)
    if step == STEPS:
        for path in (tmp_path / "model").iterdir():
            assert path.read_bytes() == (whole / "model" / path.name).read_bytes()


def test_a_dry_run_writes_nothing(place, whole, tmp_path, capsys):
    def files():
        return {path: path.stat().st_mtime_ns for path in whole.rglob("*")}

    before = files()
    for workdir in (tmp_path / "none", whole):
        assert program.main([*command(place / "clips", workdir), "--dry-run"]) == 0
    assert "gradients, activations" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()) and files() == before


def test_fewer_steps_than_were_done_are_refused(place, whole, capsys):
    assert run(place / "clips", whole, "--steps", 3) == 2
    assert "steps is 3, but" in capsys.readouterr().err


def test_sigterm(place, whole, stopped):
    """The step that is at work is finished and saved; the same command goes on."""
    assert stopped[-1] == "exit code 0"
    assert stopped[-2] == "stopped at step 3, which is saved: the same command goes on from there"
    asked = place / "asked"
    assert "3" in [path.name for path in (asked / "checkpoints").iterdir()] and not (asked / "model").exists()
    assert run(place / "clips", asked) == 0
    assert_same_run(asked, whole)
    assert (asked / "run_1.json").exists()


def test_kill(place, whole, stopped):
    """What came after the last checkpoint comes again, once."""
    killed = place / "killed"
    assert [line["step"] for line in lines(killed)] == [1, 2, 2, 3]
    assert [path.name for path in (killed / "checkpoints").iterdir()] == ["2"]
    assert run(place / "clips", killed) == 0
    assert_same_run(killed, whole)


def test_kill_on_four_devices(place):
    """With weights cut over two of them."""

    def of(workdir):
        return command(place / "clips", place / workdir, "--quiet", "--compute.fsdp", 2)

    process = start([(None, of("four")), ("KILL 3", of("killed four"))], cache=place / "cache", devices=4)
    assert finish(process) == ["exit code 0"] and process.returncode == -9
    assert finish(start([(None, of("killed four"))], cache=place / "cache", devices=4)) == ["exit code 0"]
    assert_same_run(place / "killed four", place / "four")


@pytest.fixture(scope="module")
def eight(place):
    """Runs on eight devices, by how many share the weights."""
    workdirs = {fsdp: place / f"eight {fsdp}" for fsdp in (1, 2, 0)}
    unseen = ["--quiet", "--validation.every", "0"]
    runs = [
        (None, [*command(place / "clips", workdir, "--compute.fsdp", fsdp, "--checkpoints.keep-last", 2), *unseen])
        for fsdp, workdir in workdirs.items()
    ]
    assert finish(start(runs, cache=place / "cache", devices=8)) == ["exit code 0"] * 3
    return workdirs


@pytest.mark.parametrize("fsdp", [1, 2, 0])
def test_eight_devices(whole, eight, fsdp):
    found = saved(eight[fsdp], STEPS)
    assert largest_difference(found, saved(whole, STEPS)) < 1e-5
    assert_close(lines(eight[fsdp]), [line for line in lines(whole) if "loss" in line])
    stored = json.loads((eight[fsdp] / "checkpoints" / "4" / "state" / "_sharding").read_text())
    cut = sum('"fsdp"' in sharding.partition("partition_spec")[2] for sharding in stored.values())
    assert (cut > 50) == (fsdp != 1)


def test_from_eight_devices_to_one(place, whole, eight):
    workdir = place / "from eight"
    shutil.copytree(eight[2], workdir)
    shutil.rmtree(workdir / "checkpoints" / "4")
    assert run(place / "clips", workdir) == 0
    assert largest_difference(saved(workdir, STEPS), saved(whole, STEPS)) < 1e-5


def test_two_processes(place, whole):
    """Weights copied; then cut, and one of the processes is asked to stop: both do, at one step."""
    together = ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", 2, "--process-id"]
    cut = command(place / "clips", place / "two cut", "--compute.fsdp", 2, "--steps", 40)
    processes = [
        start(
            [(None, command(place / "clips", place / "two", *together, number)), ("TERM 5" if number else None, cut)],
            cache=place / "cache",
        )
        for number in range(2)
    ]
    # Gloo tells of its connections by itself.
    said, others = (
        [line for line in finish(process, errors=None) if not line.startswith("[Gloo]")] for process in processes
    )
    assert others == ["exit code 0"] * 2
    assert said[-1] == "exit code 0" and f"written  {place / 'two' / 'model'}" in said
    assert largest_difference(saved(place / "two", STEPS), saved(whole, STEPS)) < 1e-5
    verify_checksums(place / "two" / "model")
    for workdir in (place / "two", place / "two cut"):
        assert_close(lines(workdir)[: len(lines(whole))], lines(whole))
        assert not (workdir / "run_1.json").exists() and len(list((workdir / "tensorboard").iterdir())) == 1
    step = int(said[-2].removeprefix("stopped at step ").partition(",")[0])
    assert 6 <= step < 40
    assert saved(place / "two cut", step)["step"] == step


def test_a_loss_that_is_not_finite(place, whole, tmp_path, monkeypatch, capsys):
    """The step and the clips are named, and the last checkpoint goes on."""
    samples = Samples(FolderSource(place / "clips"), config().data.sample, config().seed)
    poisoned = 2 * BATCH + 5  # of step 3
    pose = samples[poisoned]["pose"]

    @dataclasses.dataclass(frozen=True)
    class Poisoned:
        loss: setup.Loss

        def __call__(self, params, batch, *keys):
            losses = self.loss(params, batch, *keys)
            hit = (batch["pose"] == pose).all(axis=(1, 2, 3, 4))
            return Losses(jax.numpy.where(hit, jax.numpy.nan, losses.total), losses.parts)

    with monkeypatch.context() as patch:
        make_loss = setup.make_loss
        patch.setattr(setup, "make_loss", lambda *arguments: Poisoned(make_loss(*arguments)))
        assert run(place / "clips", tmp_path / "run") == 2
    folder = tmp_path / "run" / "checkpoints"
    assert capsys.readouterr().err == (
        f"train: step 3: the loss of 1 of 8 samples is not finite (clips {samples.clip(poisoned)[0].name}); "
        f"the last checkpoint is of step 2, in {folder}\n"
    )
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 2]
    assert run(place / "clips", tmp_path / "run") == 0
    assert largest_difference(saved(tmp_path / "run", STEPS), saved(whole, STEPS)) < 1e-5


def test_a_damaged_frame(place, whole, tmp_path, capsys):
    """Its file and the step are named, and where it is repaired the run goes on."""
    for name in ("clips", "held_out"):
        shutil.copytree(place / name, tmp_path / name)
    samples = Samples(FolderSource(tmp_path / "clips"), config().data.sample, config().seed)
    bad = samples.clip(2 * BATCH + 1)[0].name
    first_steps = {samples.clip(index)[0].name for index in range(2 * BATCH)}
    assert bad not in first_steps
    for frame in (tmp_path / "clips" / bad).iterdir():
        frame.write_bytes(frame.read_bytes()[:60])
    assert run(tmp_path / "clips", tmp_path / "run") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("train: the batch of step 3 cannot be made: ") and str(tmp_path / "clips" / bad) in error
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["2"]
    shutil.rmtree(tmp_path / "clips")
    shutil.copytree(place / "clips", tmp_path / "clips")
    assert run(tmp_path / "clips", tmp_path / "run") == 0
    assert_same_run(tmp_path / "run", whole)


# With validation, which compiles all of inference, it takes minutes.
@pytest.mark.parametrize("validated", [False, pytest.param(True, marks=pytest.mark.full)])
def test_both_denoising_stages(validated, place, tmp_path):
    """Stage 2 starts from stage 1's model and changes its temporal layers alone; the result animates."""
    write_clips(tmp_path / "clips", 6, height=64, width=48)
    clips = SourceConfig(kind="folder", path=str(tmp_path / "clips"))
    first = TrainConfig(
        model=tiny.model(motion=False),
        trains=("reference_unet.*", "denoising_unet.*", "pose_guider.*"),
        start=Start(random=True),
        data=DataConfig(source=clips, sample=SampleConfig(height=64, width=48, clip_size=28)),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        batch_size=2,
        steps=2,
        log_every=1,
    )
    second = dataclasses.replace(
        first,
        model=tiny.model(motion=True),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model=str(tmp_path / "first" / "model")),
        data=DataConfig(
            source=clips,
            sample=SampleConfig(height=64, width=48, clip_size=28, frames="clip", num_frames=FRAMES),
        ),
        validation=ValidationConfig(
            every=2 if validated else 0, source=clips, num_clips=1, num_frames=FRAMES, num_inference_steps=2
        ),
    )
    for name, stage in (("first", first), ("second", second)):
        said = []
        loop.train(stage, tmp_path / name, quiet=True, say=said.append)
        assert said[-1] == f"written  {tmp_path / name / 'model'}"

    models = [tmp_path / name / "model" for name in ("first", "second")]
    changed = set()
    for network in load_config(models[0]).networks:
        one, other = (read_tensors(model / f"{network}.safetensors") for model in models)
        temporal = {key for key in other if ".motion_modules." in key}
        assert set(other) - temporal == set(one)
        same = {key for key in one if np.asarray(one[key]).tobytes() == np.asarray(other[key]).tobytes()}
        assert same == set(one)
        changed |= temporal
    trained = {
        name.removeprefix("trained.denoising_unet.")
        for name in saved(tmp_path / "second", 2)
        if name.startswith("trained.")
    }
    assert trained == {key for key in changed if not key.endswith(".pe")}
    assert ("validation/psnr" in lines(tmp_path / "second")[-1]) == validated

    animator = Animator.from_pretrained(models[1])
    frames = animator(picture(1, 64, 48)[0], picture(FRAMES, 64, 48, seed=5), num_inference_steps=2)
    assert frames.shape == (FRAMES, 64, 48, 3) and frames.std() > 0
