import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aa_jax.training.checkpoint import Checkpoints
from aa_jax.training.state import TrainState
from tests.full_disk import largest_file

REPOSITORY = Path(__file__).parents[2]
# After a first error Orbax closes its event loop, and what else was being read or written ends a little later.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ABSTRACT = jax.ShapeDtypeStruct


def make_state(step: int, rows: int = 8) -> TrainState:
    """All kinds of leaves, other values at each step."""
    keys = jax.random.split(jax.random.key(step), 4)
    trained = {
        "unet.conv.kernel": jax.random.normal(keys[0], (rows, 3)),
        "unet.conv.bias": jnp.asarray([jnp.nan, -0.0, jnp.inf, 1e-40]),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    _, optimizer_state = optimizer.update(jax.tree.map(jnp.ones_like, trained), optimizer.init(trained), trained)
    return TrainState(
        step=jnp.int32(step),
        trained=trained,
        frozen={"vae.conv.kernel": jnp.arange(6, dtype=jnp.bfloat16), "vae.table": jnp.arange(3)},
        optimizer=optimizer_state,
        ema=jax.tree.map(lambda leaf: (leaf / 3).astype(jnp.bfloat16), trained),
    )


def abstract(state: TrainState) -> TrainState:
    return jax.tree.map(lambda leaf: ABSTRACT(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def assert_same(found: TrainState, expected: TrainState) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(code: str, *arguments: object, devices: int = 1, **options) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        **options,
    )


def test_round_trip_is_exact(tmp_path):
    state = make_state(7)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(abstract(state))
    assert_same(restored, state)
    assert type(restored.optimizer[1][0]) is optax.ScaleByAdamState


def test_nothing_is_frozen_and_no_average(tmp_path):
    state = TrainState(
        step=jnp.int32(0), trained={"a.b": jnp.ones(2)}, frozen={}, optimizer=optax.sgd(0.1).init({}), ema={}
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        assert_same(checkpoints.restore(abstract(state)), state)
    assert names(tmp_path) == ["0"]


def test_what_is_saved_is_the_state_of_then(tmp_path):
    """Training goes on and overwrites the donated buffers while they are written."""
    state = TrainState(step=jnp.int32(1), trained={"a": jnp.zeros(2_000_000)}, frozen={}, optimizer=(), ema={})
    wanted, expected = abstract(state), jax.tree.map(np.array, state)
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        step(step(state))  # compiled
        state = jax.tree.map(jnp.asarray, expected)
        checkpoints.save(state)
        for _ in range(3):
            state = step(state)
        assert_same(checkpoints.restore(wanted, 1), expected)


def test_the_last_and_the_best_are_kept(tmp_path):
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 4: float("nan"), 5: None, 6: 0.1}
    with Checkpoints(tmp_path, keep_last=2, keep_best=1) as checkpoints:
        assert checkpoints.latest() is None and checkpoints.best() is None
        for step, score in scores.items():
            checkpoints.save(make_state(step), score=score, metrics={"ssim": 0.25, "loss": float("nan")})
        assert (checkpoints.latest(), checkpoints.best()) == (6, 2)
    assert names(tmp_path) == ["2", "5", "6", "frozen"]
    metadata = json.loads((tmp_path / "6" / "_CHECKPOINT_METADATA").read_text())
    assert metadata["custom_metadata"] == {"metrics": {"ssim": 0.25, "loss": None}}
    with Checkpoints(tmp_path, keep_last=1, keep_best=1) as checkpoints:  # another process knows it too
        assert (checkpoints.latest(), checkpoints.best()) == (6, 2)
        checkpoints.save(make_state(7), score=0.95)
        assert checkpoints.best() == 7
        assert_same(checkpoints.restore(abstract(make_state(7))), make_state(7))
    assert names(tmp_path) == ["7", "frozen"]


def test_lower_may_be_better_and_none_be_scored(tmp_path):
    with Checkpoints(tmp_path, higher_is_better=False, keep_last=1) as checkpoints:
        checkpoints.save(make_state(1))
        assert checkpoints.best() == 1
        for step, score in {2: 3.0, 3: 2.0, 4: 5.0}.items():
            checkpoints.save(make_state(step), score=score)
        assert checkpoints.best() == 3
    assert names(tmp_path) == ["3", "4", "frozen"]


def test_numbers_to_keep_are_checked(tmp_path):
    with pytest.raises(ValueError, match="keep_last is 0"):
        Checkpoints(tmp_path, keep_last=0)


def test_the_same_step_again_changes_nothing(tmp_path):
    state = make_state(3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        checkpoints.save(dataclasses.replace(make_state(4), step=state.step))
        assert_same(checkpoints.restore(abstract(state)), state)
        checkpoints.save(make_state(5))
        with pytest.raises(ValueError, match="step 4 cannot be saved in .* has step 5 already"):
            checkpoints.save(make_state(4))


def test_frozen_is_written_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1), wait=True)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "frozen").rglob("*")}
    changed = make_state(2)
    changed.frozen["vae.table"] = jnp.zeros(3, jnp.int32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(changed)
        restored = checkpoints.restore(abstract(changed))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "frozen").rglob("*")} == files
    np.testing.assert_array_equal(restored.frozen["vae.table"], [0, 1, 2])
    stored = (tmp_path / "2" / "state" / "_METADATA").read_text()
    assert "trained.unet.conv.kernel" in stored and "vae" not in stored


def test_there_is_none(tmp_path):
    with Checkpoints(tmp_path / "none") as checkpoints:
        with pytest.raises(FileNotFoundError, match="none has no checkpoint$"):
            checkpoints.restore(abstract(make_state(1)))
        assert not (tmp_path / "none").exists()
        checkpoints.save(make_state(1))
        with pytest.raises(FileNotFoundError, match="no checkpoint of step 2, only of 1$"):
            checkpoints.restore(abstract(make_state(1)), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.trained.pop("unet.conv.bias"), "1 not expected: trained.unet.conv.bias$"),
        (lambda state: state.frozen.pop("vae.table"), "1 not expected: frozen.vae.table$"),
        (lambda state: state.ema.update(new=ABSTRACT((1,), jnp.float32)), "1 missing: ema.new$"),
        (
            lambda state: state.trained.update({"unet.conv.kernel": ABSTRACT((9, 3), jnp.float32)}),
            r"1 of another shape: trained.unet.conv.kernel \(8, 3\) instead of \(9, 3\)$",
        ),
        (
            lambda state: state.frozen.update({"vae.table": ABSTRACT((3,), jnp.float32)}),
            "1 of another dtype: frozen.vae.table int32 instead of float32$",
        ),
    ],
)
def test_another_state_is_refused(tmp_path, change, message):
    other = abstract(make_state(1))
    change(other)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        with pytest.raises(ValueError, match=message) as caught:
            checkpoints.restore(other)
    assert str(caught.value).startswith(f"checkpoint {tmp_path / '1'} does not fit: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["2/state/manifest.ocdbt", "2/state/d", "2/state/_METADATA", "frozen/manifest.ocdbt"])
def test_a_damaged_checkpoint_is_an_error_of_one_line(tmp_path, part):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(2))
    (tmp_path / part).rename(tmp_path / "away")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(ValueError, match="cannot be read|does not fit") as caught,
    ):
        checkpoints.restore(abstract(make_state(2)))
    assert "\n" not in str(caught.value)


def test_what_only_looks_like_a_checkpoint_is_not_counted(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
    (tmp_path / "5.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (tmp_path / "6").mkdir()
    (tmp_path / "7" / "state").mkdir(parents=True)
    (tmp_path / "7" / "_CHECKPOINT_METADATA").write_text('{"init_timestamp_nsecs": 1}')
    with Checkpoints(tmp_path, keep_last=1) as checkpoints:
        assert (checkpoints.latest(), checkpoints.best()) == (1, 1)
        assert_same(checkpoints.restore(abstract(make_state(1))), make_state(1))
        assert "5.orbax-checkpoint-tmp" in names(tmp_path)  # reading removes nothing
        checkpoints.save(make_state(6))
        assert_same(checkpoints.restore(abstract(make_state(6))), make_state(6))
    assert names(tmp_path) == ["6", "7", "frozen"]


def test_a_frozen_folder_that_is_not_whole_is_written_again(tmp_path):
    (tmp_path / "frozen").mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        assert_same(checkpoints.restore(abstract(make_state(1))), make_state(1))


def test_killed_while_writing(tmp_path):
    code = """
        import sys
        import jax.numpy as jnp
        from aa_jax.training.checkpoint import Checkpoints
        from aa_jax.training.state import TrainState

        def state(step):
            trained = {f"a.{i}": jnp.full((256, 1024), float(step)) for i in range(80)}
            return TrainState(step=jnp.int32(step), trained=trained, frozen={"b": jnp.ones(3)}, optimizer=(), ema={})

        checkpoints = Checkpoints(sys.argv[1])
        checkpoints.save(state(1), wait=True)
        later = state(2)
        print("saving", flush=True)
        checkpoints.save(later, wait=True)
        print("too late", flush=True)
    """
    process = run_python(code, tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "saving\n"
    half = tmp_path / "2.orbax-checkpoint-tmp"
    while not (half.exists() and any(path.stat().st_size for path in half.rglob("*/d/*"))):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[0] == ""
    assert names(tmp_path) == ["1", "2.orbax-checkpoint-tmp", "frozen"]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        wanted = TrainState(
            step=ABSTRACT((), jnp.int32),
            trained={f"a.{i}": ABSTRACT((256, 1024), jnp.float32) for i in range(80)},
            frozen={"b": ABSTRACT((3,), jnp.float32)},
            optimizer=(),
            ema={},
        )
        restored = checkpoints.restore(wanted)
        assert all((np.asarray(leaf) == 1).all() for leaf in restored.trained.values())
        checkpoints.save(dataclasses.replace(restored, step=jnp.int32(2)))
        assert checkpoints.latest() == 2
    assert names(tmp_path) == ["1", "2", "frozen"]


@pytest.mark.parametrize("surfaces", ["wait", "close", "save"])
def test_a_full_disk_is_told(tmp_path, surfaces, capfd):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    checkpoints.save(make_state(1), wait=True)
    large = dataclasses.replace(make_state(2), ema={"a": jax.random.normal(jax.random.key(0), (300, 300))})
    with largest_file(100_000):
        checkpoints.save(large)
        with pytest.raises(OSError, match=f"cannot write {tmp_path}: File too large"):
            {"wait": checkpoints.wait, "close": checkpoints.close, "save": lambda: checkpoints.save(make_state(3))}[
                surfaces
            ]()
    assert "1" in names(tmp_path) and "2" not in names(tmp_path)
    if surfaces != "close":
        assert checkpoints.latest() == 1
        checkpoints.save(make_state(3))
        assert checkpoints.latest() == 3
        checkpoints.close()
        assert names(tmp_path) == ["3", "frozen"]
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file") as checkpoints, pytest.raises(OSError, match=f"cannot write {tmp_path}/file: "):
        checkpoints.save(make_state(1))


SHARDED = """
    import dataclasses, sys
    import jax, jax.numpy as jnp, numpy as np, optax
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
    from aa_jax.training.checkpoint import Checkpoints
    from aa_jax.training.state import TrainState

    def initial(key):
        trained = {"a.kernel": jax.random.normal(key, (16, 24)), "a.bias": jnp.arange(7.0)}
        optimizer = optax.adamw(1e-3)
        _, moments = optimizer.update(trained, optimizer.init(trained), trained)
        frozen = {"b.kernel": jax.random.normal(key, (8, 2)).astype(jnp.bfloat16)}
        return TrainState(step=jnp.int32(3), trained=trained, frozen=frozen, optimizer=moments, ema=trained)

    def shardings(state, devices):
        mesh = Mesh(np.reshape(devices, (-1, min(4, len(devices)))), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
        spec = lambda leaf: PartitionSpec("fsdp") if leaf.ndim == 2 else PartitionSpec()
        return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), state)

    def abstract(devices):
        state = jax.eval_shape(initial, jax.random.key(0))
        struct = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        return jax.tree.map(struct, state, shardings(state, devices))

    def make(devices):
        state = jax.tree.map(np.asarray, jax.jit(initial)(jax.random.key(0)))
        place = lambda leaf, sharding: jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
        return jax.tree.map(place, state, shardings(state, devices)), state

    def check(state, wanted, expected):
        for leaf, struct, value in zip(*map(jax.tree.leaves, (state, wanted, expected)), strict=True):
            assert leaf.sharding == struct.sharding and leaf.dtype == value.dtype
            for shard in leaf.addressable_shards:
                assert np.asarray(shard.data).tobytes() == value[shard.index].tobytes()
"""


def test_other_numbers_of_devices(tmp_path):
    """From 8 devices onto 4 and 1, and from each of these back onto 8."""
    code = (
        SHARDED
        + """
    state, expected = make(jax.devices())
    assert len(state.trained["a.kernel"].addressable_shards[0].data) == 4
    for count in (8, 4, 1):
        devices = jax.devices()[-count:]
        with Checkpoints(f"{sys.argv[1]}/{count}") as checkpoints:
            checkpoints.save(make(devices)[0])
        for other in (8, 4, 1):
            wanted = abstract(jax.devices()[:other])
            with Checkpoints(f"{sys.argv[1]}/{count}") as checkpoints:
                check(checkpoints.restore(wanted), wanted, expected)
    print("same")
    """
    )
    process = run_python(code, tmp_path, devices=8, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, errors = process.communicate()
    assert (out, errors) == ("same\n", "")


def test_two_processes(tmp_path):
    code = (
        SHARDED
        + """
    port, index = sys.argv[2:]
    jax.distributed.initialize(f"localhost:{port}", 2, int(index))
    assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
    state, expected = make(jax.devices())
    with Checkpoints(sys.argv[1], keep_last=1) as checkpoints:
        checkpoints.save(state)
        checkpoints.save(dataclasses.replace(state, step=state.step + 1), score=0.5)
        assert checkpoints.latest() == checkpoints.best() == 4
    wanted = abstract(jax.devices())
    with Checkpoints(sys.argv[1]) as checkpoints:
        check(checkpoints.restore(wanted), wanted, dataclasses.replace(expected, step=np.int32(4)))
    print("same")
    """
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [run_python(code, tmp_path, port, i, devices=2, stdout=subprocess.PIPE, text=True) for i in range(2)]
    assert [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes] == ["same"] * 2
    assert names(tmp_path) == ["4", "frozen"]


def test_nothing_is_printed_and_logging_is_left_as_it_was(tmp_path, capfd, caplog):
    from absl import logging

    filters = list(logging.get_absl_logger().filters)
    with Checkpoints(tmp_path) as checkpoints:
        (tmp_path / "9").mkdir()
        checkpoints.save(make_state(1))
        checkpoints.restore(abstract(make_state(1)))
        logging.warning("of somebody else")
    # Of Orbax's logger alone: asyncio tells of the tasks of earlier tests, failed on purpose, whenever it finds them.
    messages = [record.getMessage() for record in caplog.records if record.name == "absl"]
    assert messages == ["of somebody else"]
    assert logging.get_absl_logger().filters == filters
    out, errors = capfd.readouterr()
    assert out == "" and errors in ("", "of somebody else")
