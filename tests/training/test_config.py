"""Configurations: those of `configs/`, changes by the command line, and what cannot be."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import jax
import pytest

from aa_jax.config import ModelConfig
from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, UNetConfig, VAEConfig
from aa_jax.train import main
from aa_jax.training.autoencoder import AutoencoderObjective
from aa_jax.training.config import (
    CheckpointConfig,
    ComputeConfig,
    DataConfig,
    Lora,
    OptimizerConfig,
    Start,
    TrainConfig,
    ValidationConfig,
    from_dict,
    load_train_config,
    to_dict,
)
from aa_jax.training.objective import Objective
from aa_jax.training.override import fields, override
from tests.datasets.videos import add_clip
from tests.training.tiny import model

CONFIGS = Path(__file__).parents[2] / "configs"
NO_RUNS = ("sd15", "characters", "ablation/arms")
PATHS = (path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.py"))
RUNS = sorted(path.as_posix() for path in PATHS if path.as_posix() not in NO_RUNS)


def tiny(motion=False, **changes):
    clip = {"frames": "clip", "num_frames": 4} if motion else {}
    values = {
        "model": model(motion),
        "trains": ("denoising_unet.*",),
        "data": DataConfig(
            source=SourceConfig(kind="synthetic"), sample=SampleConfig(height=64, width=48, clip_size=28, **clip)
        ),
        "batch_size": 4,
        "steps": 10,
    }
    return TrainConfig(**values | changes)


def with_sample(config, **changes):
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, sample=dataclasses.replace(config.data.sample, **changes))
    )


def with_model(config, **changes):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


@pytest.mark.parametrize("name", RUNS)
def test_every_file_in_configs(name):
    config = load_train_config(CONFIGS / f"{name}.py")
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(to_dict(config)) == config
    # Its docstring has the command that runs it.
    module = importlib.import_module(f"configs.{name.replace('/', '.')}")
    assert f"configs/{name}.py" in module.__doc__ or name.startswith("moore")


def test_values_that_are_not_the_defaults_survive():
    config = tiny(
        motion=True,
        objective=Objective(min_snr_gamma=5.0, dropout_unit="batch"),
        lora=Lora(rank=4, targets=("*.kernel",)),
        optimizer=OptimizerConfig(ema_decay=0.1 + 0.2, clip_norm=None),
        validation=ValidationConfig(every=5, source=SourceConfig(kind="folder", path="held/out")),
        start=Start(model="a/b", random=True),
    )
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("arguments", "read", "expected"),
    [
        ("--batch-size 16", lambda c: c.batch_size, 16),
        ("--batch_size=8", lambda c: c.batch_size, 8),
        ("--optimizer.learning-rate 2e-5", lambda c: c.optimizer.learning_rate, 2e-5),
        ("--optimizer.learning-rate=1", lambda c: c.optimizer.learning_rate, 1.0),
        ("--optimizer.clip-norm none", lambda c: c.optimizer.clip_norm, None),
        ("--optimizer.ema-decay 0.999", lambda c: c.optimizer.ema_decay, 0.999),
        ("--optimizer.name adafactor", lambda c: c.optimizer.name, "adafactor"),
        ("--start.random true", lambda c: c.start.random, True),
        ("--start.random=False", lambda c: c.start.random, False),
        ("--start.model runs/stage-1/model", lambda c: c.start.model, "runs/stage-1/model"),
        ("--start.model None", lambda c: c.start.model, None),
        ("--start.model 2024", lambda c: c.start.model, "2024"),
        ("--start.model a=b", lambda c: c.start.model, "a=b"),
        ("--trains vae.*,!vae.encoder.*", lambda c: c.trains, ("vae.*", "!vae.encoder.*")),
        ("--trains *", lambda c: c.trains, ("*",)),
        ("--lora.rank 4 --lora.targets=*.to_q.kernel,", lambda c: c.lora, Lora(rank=4, targets=("*.to_q.kernel",))),
        (
            "--data.sample.style.feet true --model.inference.draw-feet true",
            lambda c: (c.data.sample.style.feet, c.model.inference.draw_feet),
            (True, True),
        ),
        ("--model.schedule.prediction-type sample", lambda c: c.model.schedule.prediction_type, "sample"),
        ("--steps 5 --steps 6", lambda c: c.steps, 6),
        # Parts that are none appear, and disappear.
        (
            "--validation.source.kind synthetic --validation.source.num-clips 3",
            lambda c: c.validation.source,
            SourceConfig(kind="synthetic", num_clips=3),
        ),
        ("--autoencoder.kl-weight 1e-5", lambda c: c.autoencoder, AutoencoderObjective(kl_weight=1e-5)),
        ("--autoencoder.kl-weight 1 --autoencoder none", lambda c: c.autoencoder, None),
    ],
)
def test_override(arguments, read, expected):
    found = read(override(tiny(), arguments.split()))
    assert found == expected and type(found) is type(expected)


def test_override_changes_nothing_else():
    assert override(tiny(), ["--seed", "3"]) == dataclasses.replace(tiny(), seed=3)
    assert override(tiny(), []) == tiny()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--colour 1", "there is no field colour: the configuration has no colour, it has model, trains,"),
        ("--optimizer.lr 1", "there is no field optimizer.lr: optimizer has no lr, it has name, learning_rate,"),
        (
            "--optimizer.name.x 1",
            "there is no field optimizer.name.x: optimizer.name has no x, it is {adamw,adafactor,muon}",
        ),
        ("--batch-size.x 1", "there is no field batch_size.x: batch_size has no x, it is int"),
        ("--batch-size", "--batch-size has no value, expected --FIELD VALUE"),
        ("batch-size 3", "'batch-size' is no option, expected --FIELD VALUE"),
        ("--batch-size 8 9", "'9' is no option, expected --FIELD VALUE"),
        ("-- 3", "'--' is no option"),
        ("--batch-size 1.5", "config.batch_size is '1.5', expected int"),
        ("--batch-size none", "config.batch_size is 'none', expected int"),
        ("--batch-size true", "config.batch_size is 'true', expected int"),
        ("--optimizer.learning-rate fast", "config.optimizer.learning_rate is 'fast', expected float"),
        ("--optimizer.learning-rate nan", "optimizer.learning_rate is nan, expected 0 or more"),
        ("--start.random 1", "config.start.random is '1', expected bool"),
        ("--optimizer.name sgd", "config.optimizer.name is 'sgd', expected one of 'adamw', 'adafactor', 'muon'"),
        ("--model.vae.block-out-channels 8,x", "config.model.vae.block_out_channels[1] is 'x', expected int"),
        ("--optimizer x", "optimizer has fields of its own, set those: name, learning_rate,"),
        ("--optimizer none", "optimizer has fields of its own, set those: name, learning_rate,"),
        ("--validation.source data", "validation.source has fields of its own, set those: kind, path,"),
        ("--optimizer.accumulation 3", "batch_size 4 does not divide into optimizer.accumulation 3 parts"),
        ("--validation.every 3", "validation.every is set, but there is no validation.source"),
        ("--model.vae none", "the model has no vae, which training takes"),
    ],
)
def test_overrides_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        override(tiny(), arguments.split())
    assert "\n" not in str(error.value)


def test_every_field_is_listed_and_can_be_set():
    listed = dict(fields())
    assert listed["optimizer.learning_rate"] == "float"
    assert listed["optimizer.ema_decay"] == "float or none"
    assert listed["compute.dtype"] == "{float32,bfloat16}"
    assert listed["trains"] == "str,..."
    assert {"autoencoder.kl_weight", "validation.source.path", "batch_size"} <= listed.keys()

    def leaves(data, prefix=""):
        for name, value in data.items():
            yield from leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]

    values = dict(leaves(to_dict(tiny())))
    assert {name for name, value in values.items() if value is not None} <= listed.keys()
    words = {name: ",".join(map(str, value)) if isinstance(value, tuple) else value for name, value in values.items()}
    assert override(tiny(), [f"--{name}={value}" for name, value in words.items() if value is not None]) == tiny()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"file.py has no config\(\), expected one that returns a TrainConfig"),
        ("def config(): return {}", r"config\(\) of .*file.py returns dict, expected a TrainConfig"),
        ("config = 3", "file.py cannot be run: TypeError: 'int' object is not callable"),
        ("def config(): return 1 / 0", "file.py cannot be run: ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name", "file.py cannot be run: ModuleNotFoundError: No module named"),
        ("def config(:", "file.py cannot be run: SyntaxError: "),
        (
            "from aa_jax.training.config import Lora\ndef config(): return Lora(rank=-1)",
            "^lora.rank is -1, expected 0 or more$",
        ),
    ],
)
def test_files_that_cannot_be(tmp_path, text, message):
    path = tmp_path / "file.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_train_config(path)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.py does not exist, expected a Python file that defines"):
        load_train_config(tmp_path / "nowhere.py")
    (tmp_path / "file.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match="file.yaml is no Python file"):
        load_train_config(tmp_path / "file.yaml")


IMPOSSIBLE = {
    "lora.rank is -1, expected 0 or more": lambda: Lora(rank=-1),
    "data.num_workers is -1, expected 0 or more": lambda: dataclasses.replace(tiny().data, num_workers=-1),
    "optimizer.name is 'sgd', expected one of adamw, adafactor, muon": lambda: OptimizerConfig(name="sgd"),
    "optimizer.schedule is 'linear', expected one of constant, cosine": lambda: OptimizerConfig(schedule="linear"),
    "optimizer.learning_rate is -1, expected 0 or more": lambda: OptimizerConfig(learning_rate=-1),
    "optimizer.warmup_steps is -1, expected": lambda: OptimizerConfig(warmup_steps=-1),
    "optimizer.weight_decay is -1, expected": lambda: OptimizerConfig(weight_decay=-1),
    "optimizer.epsilon is -1, expected": lambda: OptimizerConfig(epsilon=-1),
    "optimizer.accumulation is 0, expected 1 or more": lambda: OptimizerConfig(accumulation=0),
    "optimizer.b1 is 1, expected 0 or more and below 1": lambda: OptimizerConfig(b1=1),
    "optimizer.b2 is -0.1, expected 0 or more and below 1": lambda: OptimizerConfig(b2=-0.1),
    "optimizer.ema_decay is 1.0, expected 0 or more and below 1": lambda: OptimizerConfig(ema_decay=1.0),
    "optimizer.clip_norm is 0, expected a positive number or none": lambda: OptimizerConfig(clip_norm=0),
    "compute.dtype is 'float16', expected one of float32, bfloat16": lambda: ComputeConfig(dtype="float16"),
    "compute.remat is 'all', expected one of none, products, layers": lambda: ComputeConfig(remat="all"),
    "compute.attention is 'flash', expected one of auto, xla": lambda: ComputeConfig(attention="flash"),
    "compute.fsdp is -1, expected 0 or more": lambda: ComputeConfig(fsdp=-1),
    "checkpoints.every is 0, expected 1 or more": lambda: CheckpointConfig(every=0),
    "checkpoints.keep_last is 0, expected 1 or more": lambda: CheckpointConfig(keep_last=0),
    "checkpoints.keep_best is -1, expected 0 or more": lambda: CheckpointConfig(keep_best=-1),
    "validation.every is -1, expected 0 or more": lambda: ValidationConfig(every=-1),
    "validation.num_clips is 0, expected 1 or more": lambda: ValidationConfig(num_clips=0),
    "validation.num_frames is 0, expected": lambda: ValidationConfig(num_frames=0),
    "validation.num_inference_steps is 0, expected": lambda: ValidationConfig(num_inference_steps=0),
    "validation.num_inference_steps is 2000, but the schedule has 1000 timesteps": lambda: tiny(
        validation=ValidationConfig(num_inference_steps=2000)
    ),
    "validation.every is set, but there is no validation.source": lambda: ValidationConfig(every=1),
    "batch_size is 0, expected 1 or more": lambda: tiny(batch_size=0),
    "steps is 0, expected 1 or more": lambda: tiny(steps=0),
    "log_every is 0, expected 1 or more": lambda: tiny(log_every=0),
    "seed is -1, expected 0 or more": lambda: tiny(seed=-1),
    "batch_size 4 does not divide into optimizer.accumulation 3 parts": lambda: tiny(
        optimizer=OptimizerConfig(accumulation=3)
    ),
    "model.unet and model.motion_module is set, and training takes denoising_unet": lambda: with_model(
        tiny(), unet=UNetConfig(), motion_module=UNetConfig()
    ),
    "the model has no pose_guider, vae, which training takes": lambda: with_model(tiny(), pose_guider=None, vae=None),
    "the model has no reference_unet or controlnet or image_encoder, which training takes": lambda: with_model(
        tiny(), reference_unet=None, image_encoder=None
    ),
    "data.cache holds embeddings, and there is no encoder": lambda: with_model(
        tiny(data=dataclasses.replace(tiny().data, cache="cache")), image_encoder=None
    ),
    "autoencoder is set, but model.vae is none": lambda: tiny(model=ModelConfig(), autoencoder=AutoencoderObjective()),
    "autoencoder learns from images, which data.cache does not hold": lambda: tiny(
        autoencoder=AutoencoderObjective(), data=dataclasses.replace(tiny().data, cache="cache")
    ),
    "data.sample.height is 60, expected a multiple of 8, the pixels of a latent": lambda: with_sample(
        tiny(), height=60
    ),
    "data.sample.width is 60, expected a multiple of 8": lambda: with_sample(
        tiny(model=ModelConfig(vae=VAEConfig()), autoencoder=AutoencoderObjective()), width=60
    ),
    "data.sample.clip_size is 224, but the image encoder takes 28 pixels": lambda: with_sample(tiny(), clip_size=224),
    "data.sample.latent_downscale is 4, but the VAE's is 8": lambda: with_sample(tiny(), latent_downscale=4),
    "data.sample.style is DrawStyle(face=False, hands=False,": lambda: with_sample(
        tiny(), style=dataclasses.replace(tiny().data.sample.style, hands=False)
    ),
    "data.sample.num_frames is 9, but the temporal layers have 8 positions": lambda: with_sample(
        tiny(motion=True), num_frames=9
    ),
    "data.sample.frames is 'single', but the denoising UNet has temporal layers": lambda: with_sample(
        tiny(motion=True), frames="single"
    ),
    "reference_unet.motion is set, but a reference_unet sees one image alone": lambda: with_model(
        tiny(), reference_unet=dataclasses.replace(tiny().model.reference_unet, motion=MotionConfig())
    ),
    "start.motion_module is set, but model.denoising_unet.motion is none": lambda: tiny(
        start=Start(motion_module="models/animatediff")
    ),
    "model.schedule has zero terminal SNR and predicts epsilon": lambda: with_model(
        tiny(), schedule=dataclasses.replace(tiny().model.schedule, prediction_type="epsilon")
    ),
    "data.cache holds no embedding of a black image": lambda: with_model(
        tiny(data=dataclasses.replace(tiny().data, cache="cache")),
        inference=dataclasses.replace(tiny().model.inference, unconditional_embedding="zero_image"),
    ),
    "image_encoder gives embeddings of 768 channels": lambda: with_model(tiny(), image_encoder=CLIPVisionConfig()),
}


@pytest.mark.parametrize("message", IMPOSSIBLE)
def test_what_cannot_be(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        IMPOSSIBLE[message]()
    assert "\n" not in str(error.value)


def test_what_can_be():
    assert tiny(motion=True).data.sample.frames == "clip"
    # The VAE's stage needs nothing else, and sees images of any kind.
    vae = ModelConfig(vae=VAEConfig())
    assert with_sample(tiny(model=vae, autoencoder=AutoencoderObjective()), clip_size=99).autoencoder is not None


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `aa_jax.train` on a folder of clips, and gives its exit code and what it says; it must not compile."""

    def fail(*_):
        pytest.fail("something was compiled")

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    monkeypatch.chdir(tmp_path)
    add_clip(tmp_path / "clips", "a", frames=4, height=64, width=48)
    (tmp_path / "run.py").write_text(
        "from tests.training.test_config import tiny\n"
        "from aa_jax.training.config import DataConfig\n"
        "from aa_jax.data.source import SourceConfig\n"
        "def config():\n"
        "    source = SourceConfig(kind='folder', path='clips')\n"
        "    return tiny(data=DataConfig(source=source, sample=tiny().data.sample))\n"
    )

    def call(arguments):
        code = main(arguments.split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--config run.py --workdir work --optimizer.lr 1", "there is no field optimizer.lr"),
        ("--config run.py --workdir work --batch-size", "--batch-size has no value"),
        ("--config nowhere.py --workdir work", "nowhere.py does not exist, expected a Python file"),
        ("--config run.py", "--workdir is not given, expected the folder of the run"),
        ("--config run.py --workdir work --step 3", "--step is given without --export"),
        ("--config run.py --workdir work --process-id 0", "--process-id is given without --distributed"),
        ("--config run.py --workdir work --data.source.path nowhere", "nowhere does not exist"),
        ("--config run.py --workdir work --start.model nowhere", "nowhere does not exist, expected a model folder"),
        ("--config run.py --dry-run --start.vae nowhere", "nowhere does not exist, expected a model folder"),
        ("--config run.py --workdir work", "reference_unet does not train and has no weights: give start."),
        ("--config run.py --workdir work --trains unet.*", "trains has 'unet.*', which fits no parameter"),
        ("--config run.py --workdir work --optimizer.accumulation 3", "batch_size 4 does not divide into"),
        ("--config run.py --workdir work --compute.fsdp 3", "compute.fsdp is 3, expected a divisor of the number"),
    ],
)
def test_errors_of_the_command(command, arguments, message):
    code, _, err = command(arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("train: ") and message in err


def test_a_batch_that_does_not_divide_by_the_devices(command, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda *_: [jax.local_devices()[0]] * 8)
    code, _, err = command("--config run.py --workdir work")
    assert code == 2
    assert (
        err == "train: batch_size 4 does not divide by 8 devices x optimizer.accumulation 1: choose a multiple of 8\n"
    )


@pytest.mark.parametrize("arguments", ["", "--workdir work", "--config run.py --step three"])
def test_errors_of_the_command_line(command, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    assert capsys.readouterr().err.count("\n") == 1


def test_fields(command):
    code, out, _ = command("--config run.py --fields")
    assert code == 0
    assert re.search(r"^--optimizer.learning-rate +float$", out, re.MULTILINE)
    assert len(out.splitlines()) == len(list(fields()))
