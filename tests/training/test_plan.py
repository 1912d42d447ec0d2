"""The plan against hand-counted sizes, and against what XLA says of a compiled step on 8 devices."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from aa_jax.training.plan import (
    Memory,
    NetworkPlan,
    Plan,
    bytes_per_device,
    check_memory,
    device_memory,
    format_bytes,
    format_plan,
    make_plan,
    with_memory,
)
from aa_jax.training.state import TrainState

GIB = 2**30
MESH = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))
ORIGINS = {"unet": "models/sd15", "vae": "random"}


def shape(*sizes, dtype=jnp.float32, sharding=None):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)


def make_state(ema=True):
    trained = {"unet.a.kernel": shape(64, 32), "unet.a.bias": shape(32)}
    frozen = {
        "unet.b.kernel": shape(16, 16),
        "unet.idle.kernel": shape(10),
        "vae.kernel": shape(100, 10, dtype=jnp.bfloat16),
    }
    return TrainState(
        step=shape(dtype=jnp.int32),
        trained=trained,
        frozen=frozen,
        optimizer=jax.eval_shape(optax.adam(1e-3).init, trained),
        ema=trained if ema else {},
    )


def plan_of(state, **options):
    batch = {"target": shape(4, 8, 8, 3, dtype=jnp.uint8)}
    return make_plan(state, batch, unused={"unet.idle.kernel"}, origins=ORIGINS, mesh=MESH, **options)


def gib(**parts):
    """A plan with so many GiB on each device."""
    names = ("trained", "frozen", "optimizer", "ema", "gradients", "batch")
    memory = Memory(**{name: int(parts.pop(name, 0) * GIB) for name in names})
    temporary = parts.pop("temporary", None)
    return Plan(
        networks=(NetworkPlan(name="unet", trained=10, frozen=20, unused=0, origin="x"),),
        memory=dataclasses.replace(memory, temporary=None if temporary is None else int(temporary * GIB)),
        frozen_dtype=parts.pop("frozen_dtype", "float32"),
        mesh={"data": 1, "fsdp": 1},
        device_kind="NVIDIA A10",
        device_memory=None if parts["limit"] is None else int(parts["limit"] * GIB),
    )


def test_networks_and_bytes_by_hand():
    plan = plan_of(make_state())
    unet, vae = plan.networks
    assert unet == NetworkPlan(name="unet", trained=64 * 32 + 32, frozen=256, unused=10, origin="models/sd15")
    assert vae == NetworkPlan(name="vae", trained=0, frozen=1000, unused=0, origin="random")
    weights = 4 * (64 * 32 + 32)
    assert plan.memory == Memory(
        trained=weights,
        frozen=4 * 266 + 2 * 1000,
        optimizer=2 * weights + 4,
        ema=weights,
        gradients=weights,
        batch=4 * 8 * 8 * 3,
    )
    assert plan.memory.total == 5 * weights + 4 + 4 * 266 + 2000 + 768
    assert plan.frozen_dtype == "bfloat16"
    assert plan_of(make_state(ema=False)).memory.ema == 0


def test_what_does_not_fit_together():
    state = make_state()
    with pytest.raises(ValueError, match="unet.a.bias is unused but not among the frozen"):
        make_plan(state, {}, unused={"unet.a.bias"}, origins=ORIGINS, mesh=MESH)
    with pytest.raises(ValueError, match="vae.kernel is of vae, whose origin is not given, only of unet"):
        make_plan(state, {}, unused=(), origins={"unet": "here"}, mesh=MESH)


def test_bytes_of_shards():
    mesh = jax.sharding.AbstractMesh((2, 4), ("data", "fsdp"))
    tree = {
        "cut": shape(64, 32, sharding=NamedSharding(mesh, P(None, "fsdp"))),
        "copied": shape(32, dtype=jnp.bfloat16, sharding=NamedSharding(mesh, P())),
        "batch": shape(16, 3, dtype=jnp.uint8, sharding=NamedSharding(mesh, P(("data", "fsdp")))),
        "scalar": shape(dtype=jnp.int32),
    }
    assert bytes_per_device(tree) == 64 * 8 * 4 + 32 * 2 + 2 * 3 + 4
    assert bytes_per_device({}) == 0
    assert bytes_per_device([jnp.zeros((3, 5)), np.zeros(2, np.int8)]) == 62


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="reads /proc/meminfo")
def test_memory_of_devices():
    memory = device_memory(jax.devices("cpu")[0])
    with open("/proc/meminfo") as file:
        total = 1024 * int(file.readline().split()[1])
    assert memory == pytest.approx(total / jax.local_device_count("cpu"), rel=0.01)

    def accelerator(stats):
        return types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)

    assert device_memory(accelerator({"bytes_limit": 7})) == 7
    assert device_memory(accelerator(None)) is None


def test_what_fits():
    check_memory(gib(trained=2, optimizer=4, gradients=2, limit=8))
    check_memory(gib(trained=200, limit=None))


def test_what_does_not_fit():
    with pytest.raises(ValueError) as error:
        check_memory(gib(trained=3, frozen=4, optimizer=6, ema=3, gradients=3, limit=16))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(
        "a step needs at least 19.0 GiB on each device (optimizer state 6.0 GiB, frozen weights 4.0 GiB, "
    )
    assert "but NVIDIA A10 has 16.0 GiB: " in message
    for saving in ("compute.fsdp", "compute.frozen_dtype", "optimizer.name", "optimizer.ema_decay"):
        assert saving in message
    assert "batch_size" not in message


def test_only_what_helps_is_proposed():
    with pytest.raises(ValueError) as error:
        check_memory(gib(trained=10, frozen=4, frozen_dtype="bfloat16", optimizer=0.5, gradients=10, limit=16))
    assert "compute.fsdp" in str(error.value)
    for saving in ("compute.frozen_dtype", "optimizer.name", "optimizer.ema_decay", "batch_size"):
        assert saving not in str(error.value)


def test_a_compiled_step_that_does_not_fit():
    """Gradients are among the temporary memory then, and are not counted twice."""
    check_memory(gib(trained=4, gradients=4, temporary=10, limit=15))
    with pytest.raises(ValueError, match="a step needs 16.0 GiB .*activations 12.0 GiB.*batch_size.*compute.remat"):
        check_memory(gib(trained=4, gradients=4, temporary=12, limit=15))


def test_table():
    plan = plan_of(make_state(), step_flops=2.5e12, sample_flops=6e11)
    plan = dataclasses.replace(plan, device_kind="NVIDIA A10", device_memory=22 * GIB, mesh={"data": 2, "fsdp": 4})
    # The sum before the step is compiled; then with its temporary memory in place of the gradients.
    compiled = dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, temporary=3 * GIB))
    assert format_plan(plan) == TABLE
    assert format_plan(compiled).splitlines()[-5:-3] == [
        "gradients, activations   3.0 GiB",
        "in all                   3.0 GiB  of 22.0 GiB",
    ]


TABLE = """\
network            trained  frozen  unused  weights from
unet                 2.1 K     256      10  models/sd15
vae                      -   1.0 K       -  random
parameters in all    2.1 K   1.3 K      10

on each device     memory  8 x NVIDIA A10, data 2 x fsdp 4
trained weights   8.1 KiB  float32
frozen weights    3.0 KiB  bfloat16
optimizer state  16.3 KiB
moving average    8.1 KiB
batch               768 B
gradients         8.1 KiB
in all           44.4 KiB  and what activations take, of 22.0 GiB

work of a sample  600.0 GFLOP
work of a step      2.5 TFLOP  312.5 GFLOP on each device"""


def test_table_of_what_is_known():
    """No FLOPs counted, no memory known."""
    plan = dataclasses.replace(plan_of(make_state(ema=False)), device_memory=None)
    text = format_plan(plan)
    assert "work of" not in text and "moving average" not in text and " of " not in text.splitlines()[-1]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_sizes_for_people():
    assert [format_bytes(size) for size in (0, 1023, 1024, 2**20 - 1, 1.5 * GIB, 5000 * 2**40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 GiB", "5000.0 TiB"
    ]  # fmt: skip


SCRIPT = """
    import json
    import jax, jax.numpy as jnp, numpy as np, optax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    from aa_jax.training.plan import bytes_per_device, device_memory, make_plan, with_memory
    from aa_jax.training.state import TrainState

    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "fsdp"))
    cut, copied = NamedSharding(mesh, P(None, "fsdp")), NamedSharding(mesh, P())
    like = lambda tree: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut if len(x.shape) == 2 else copied), tree)
    trained = like({"net.kernel": jnp.zeros((64, 256)), "net.bias": jnp.zeros(256)})
    frozen = like({"net.out.kernel": jnp.zeros((256, 64), jnp.bfloat16)})
    optimizer = optax.adam(1e-3)
    state = like(TrainState(step=jnp.zeros((), jnp.int32), trained=trained, frozen=frozen,
                            optimizer=jax.eval_shape(optimizer.init, trained), ema=trained))
    batch = jax.ShapeDtypeStruct((32, 64), jnp.float32, sharding=NamedSharding(mesh, P(("data", "fsdp"))))

    def step(state, batch):
        def loss(trained):
            hidden = jnp.tanh(batch @ trained["net.kernel"] + trained["net.bias"])
            return jnp.mean((hidden @ state.frozen["net.out.kernel"].astype(jnp.float32)) ** 2)
        updates, moments = optimizer.update(jax.grad(loss)(state.trained), state.optimizer)
        trained = optax.apply_updates(state.trained, updates)
        ema = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, state.ema, trained)
        return TrainState(step=state.step + 1, trained=trained, frozen=state.frozen, optimizer=moments, ema=ema)

    shardings = jax.tree.map(lambda x: x.sharding, state)
    compiled = jax.jit(step, donate_argnums=0, out_shardings=shardings).lower(state, batch).compile()
    plan = make_plan(state, batch, unused=(), origins={"net": "here"}, mesh=mesh)
    memory = with_memory(plan, compiled).memory
    stats = compiled.memory_analysis()
    print(json.dumps({
        "arguments": stats.argument_size_in_bytes,
        "temporary": stats.temp_size_in_bytes,
        "planned": bytes_per_device((state, batch)),
        "parts": [memory.trained, memory.frozen, memory.optimizer, memory.ema, memory.batch],
        "planned_temporary": memory.temporary,
        "device_memory": device_memory(jax.devices()[0]),
        "mesh": plan.mesh,
    }))
"""


def test_eight_devices():
    """A device's bytes are those that XLA gives for the arguments of the compiled, sharded step."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    step = 4
    kernel, bias = 64 * 64 * 4, 256 * 4
    assert found["parts"] == [kernel + bias, 256 * 16 * 2, 2 * (kernel + bias) + 4, kernel + bias, 4 * 64 * 4]
    assert found["planned"] == sum(found["parts"]) + step
    # XLA aligns small arrays.
    assert found["arguments"] == pytest.approx(found["planned"], abs=256)
    assert found["temporary"] <= found["planned_temporary"] <= found["temporary"] + 1024
    assert found["device_memory"] == pytest.approx(device_memory(jax.devices("cpu")[0]) / 8, rel=0.01)
    assert found["mesh"] == {"data": 2, "fsdp": 4}


def test_temporary_memory():
    """Of what is not donated, the results come on top."""
    x = shape(256, 256)
    compiled = jax.jit(lambda x: jnp.sin(x) @ x).lower(x).compile()
    plan = plan_of(make_state())
    assert with_memory(plan, compiled).memory.temporary >= 256 * 256 * 4
    untold = types.SimpleNamespace(memory_analysis=lambda: None)
    assert with_memory(plan, untold) is plan
