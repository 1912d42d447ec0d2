"""I3D (Carreira & Zisserman, arXiv 1705.07750), in pytorch-i3d's port of the network trained on Kinetics-400
(`i3d_pretrained_400.pt`), as FVD takes it."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.metrics.networks.layers import BatchNorm, Conv

# Channels of a block's convolutions: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after a pool.
BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# The pools before blocks: window and stride.
POOLS = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def max_pool(
    x: Float[Array, "b t h w c"], window: tuple[int, int, int], stride: tuple[int, int, int]
) -> Float[Array, "b t2 h2 w2 c"]:
    """TensorFlow's "SAME" pool. The port pads with zeros, which after a ReLU are never more than the maximum."""
    return nnx.max_pool(x, window, stride, "SAME")


class Unit(nnx.Module):
    """Convolution of a cubic kernel, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1):
        self.conv3d = Conv(inputs, outputs, (size,) * 3, stride=stride)
        self.bn = BatchNorm(outputs, epsilon=1e-3)

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 d"]:
        return jax.nn.relu(self.bn(self.conv3d(x)))


class Block(nnx.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...]):
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit(inputs, b0, 1)
        self.b1a = Unit(inputs, b1a, 1)
        self.b1b = Unit(b1a, b1b, 3)
        self.b2a = Unit(inputs, b2a, 1)
        self.b2b = Unit(b2a, b2b, 3)
        self.b3b = Unit(inputs, b3b, 1)
        self.outputs = b0 + b1b + b2b + b3b

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w d"]:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return jnp.concatenate([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], -1)


class Logits(nnx.Module):
    """The last layer."""

    def __init__(self, inputs: int, classes: int):
        self.conv3d = Conv(inputs, classes, (1, 1, 1), use_bias=True)

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w d"]:
        return self.conv3d(x)


class I3D(nnx.Module):
    """Pixels in [0, 255] to 400 logits, averaged over time."""

    def __init__(self) -> None:
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        channels = 192
        for name, widths in BLOCKS.items():
            block = Block(channels, widths)
            setattr(self, name, block)
            channels = block.outputs
        self.logits = Logits(channels, 400)

    def __call__(self, pixels: Float[Array, "b t h w 3"]) -> Float[Array, "b 400"]:
        """FVD's windows are 16 frames of 224x224.

        These end as two steps in time. The port's last pool takes both at once, DisCo's copy of it one, then their
        mean: the same.
        """
        x = max_pool(self.Conv3d_1a_7x7(pixels / 127.5 - 1), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in BLOCKS:
            if name in POOLS:
                x = max_pool(x, *POOLS[name])
            x = getattr(self, name)(x)
        return jnp.mean(self.logits(jnp.mean(x, (2, 3), keepdims=True)), (1, 2, 3))
