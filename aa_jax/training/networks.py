"""The networks of a model as functions of one flat dict of parameters."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from aa_jax.config import ModelConfig
from aa_jax.models.bundle import NETWORKS, abstract_network
from aa_jax.models.config import Policy
from aa_jax.training.state import Params


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks without their parameters. Make them with `Networks.of`.

    Attributes:
      graphs: the structure of each.
      variables: by "network.path", the path in its network and the variable, with a shape in place of an array.
    """

    graphs: Mapping[str, nnx.GraphDef]
    variables: Mapping[str, tuple[tuple[Any, ...], nnx.Variable]]

    @classmethod
    def of(cls, model: ModelConfig, policy: Policy) -> "Networks":
        """The networks of `model` that are there."""
        graphs, variables = {}, {}
        for name in model.networks:
            graphs[name], state = nnx.split(abstract_network(name, getattr(model, name), policy))
            for path, variable in nnx.to_flat_state(state):
                variables[".".join(map(str, (name, *path)))] = (path, variable)
        return cls(graphs, variables)

    @property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Of every parameter."""
        values = {key: variable.get_value() for key, (_, variable) in self.variables.items()}
        return {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in values.items()}

    def can_train(self, key: str) -> bool:
        """Whether a parameter is one, and no table or running statistic."""
        return isinstance(self.variables[key][1], nnx.Param)

    def module(self, name: str, params: Params) -> Any:
        """A network with its parameters among `params`."""
        return nnx.merge(self.graphs[name], self.state(name, params))

    def state(self, name: str, params: Params) -> nnx.State:
        """A network's parameters among `params`, as NNX has them."""
        prefix = f"{name}."
        flat = [
            (path, variable.replace(params[key]))
            for key, (path, variable) in self.variables.items()
            if key.startswith(prefix)
        ]
        return nnx.from_flat_state(flat)


class Keys:
    """Stands in for `nnx.Rngs` in building a network: another key at each call, without its slow counters."""

    def __init__(self, key: jax.Array) -> None:
        self.key, self.count = key, 0

    def params(self) -> jax.Array:
        """The next key."""
        self.count += 1
        return jax.random.fold_in(self.key, self.count)


def random_params(model: ModelConfig, name: str, key: jax.Array, wanted: frozenset[str]) -> Params:
    """Initial values of the parameters `wanted` of a network, as its layers make them; the others are not made."""

    def make(key: jax.Array) -> Params:
        network = NETWORKS[name](getattr(model, name), policy=Policy(), rngs=Keys(key))
        named = {".".join(map(str, (name, *path))): value for path, value in nnx.to_flat_state(nnx.state(network))}
        return {key: variable.get_value() for key, variable in named.items() if key in wanted}

    traced, shapes = jax.make_jaxpr(make, return_shape=True)(key)
    needed, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals), instantiate=True)
    # Not as one program: compiling it would take longer than running its many small ones.
    values = jaxpr_as_fun(ClosedJaxpr(needed, traced.consts))(key)
    return jax.tree.unflatten(jax.tree.structure(shapes), values)
