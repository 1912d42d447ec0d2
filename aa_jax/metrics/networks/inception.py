"""Inception-v3 as FID takes it: TensorFlow's network of 2015 in pytorch-fid's port
(`pt_inception-2015-12-05-6726825d.pth`).

It differs from torchvision's Inception-v3 (Szegedy et al., arXiv 1512.00567) in its pools: averages leave padding out
of the count, and the last block takes a maximum.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.metrics.networks.layers import BatchNorm, Conv


class Unit(nnx.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], *, stride: int = 1, padding: str = "SAME"):
        self.conv = Conv(inputs, outputs, kernel, stride=stride, padding=padding)
        self.bn = BatchNorm(outputs, epsilon=1e-3)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        return jax.nn.relu(self.bn(self.conv(x)))


def shrink(inputs: int, outputs: int) -> Unit:
    """A 3x3 unit that halves the size."""
    return Unit(inputs, outputs, (3, 3), stride=2, padding="VALID")


def halving_max(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """The pool between stages."""
    return nnx.max_pool(x, (3, 3), (2, 2))


def local_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean of those of the 3x3 neighbours that are in the image."""
    return nnx.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def local_max(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Maximum of the 3x3 neighbours."""
    return nnx.max_pool(x, (3, 3), padding="SAME")


class BlockA(nnx.Module):
    """Branches of 1x1, 5x5 and twice 3x3, and a pool; c to 224 + `pooled` channels."""

    def __init__(self, inputs: int, pooled: int):
        self.branch1x1 = Unit(inputs, 64, (1, 1))
        self.branch5x5_1 = Unit(inputs, 48, (1, 1))
        self.branch5x5_2 = Unit(48, 64, (5, 5))
        self.branch3x3dbl_1 = Unit(inputs, 64, (1, 1))
        self.branch3x3dbl_2 = Unit(64, 96, (3, 3))
        self.branch3x3dbl_3 = Unit(96, 96, (3, 3))
        self.branch_pool = Unit(inputs, pooled, (1, 1))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(local_mean(x)),
        ]
        return jnp.concatenate(branches, -1)


class BlockB(nnx.Module):
    """To half the size: branches of 3x3 and twice 3x3, and a pool; c to 480 + c channels."""

    def __init__(self, inputs: int):
        self.branch3x3 = shrink(inputs, 384)
        self.branch3x3dbl_1 = Unit(inputs, 64, (1, 1))
        self.branch3x3dbl_2 = Unit(64, 96, (3, 3))
        self.branch3x3dbl_3 = shrink(96, 96)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        branches = [
            self.branch3x3(x),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            halving_max(x),
        ]
        return jnp.concatenate(branches, -1)


class BlockC(nnx.Module):
    """Branches of 1x1, 7x7 and twice 7x7, by rows and columns apart and `width` wide, and a pool; to 768 channels."""

    def __init__(self, inputs: int, width: int):
        self.branch1x1 = Unit(inputs, 192, (1, 1))
        self.branch7x7_1 = Unit(inputs, width, (1, 1))
        self.branch7x7_2 = Unit(width, width, (1, 7))
        self.branch7x7_3 = Unit(width, 192, (7, 1))
        self.branch7x7dbl_1 = Unit(inputs, width, (1, 1))
        self.branch7x7dbl_2 = Unit(width, width, (7, 1))
        self.branch7x7dbl_3 = Unit(width, width, (1, 7))
        self.branch7x7dbl_4 = Unit(width, width, (7, 1))
        self.branch7x7dbl_5 = Unit(width, 192, (1, 7))
        self.branch_pool = Unit(inputs, 192, (1, 1))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branches = [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(local_mean(x)),
        ]
        return jnp.concatenate(branches, -1)


class BlockD(nnx.Module):
    """To half the size: branches of 3x3, and of 7x7 then 3x3, and a pool; c to 512 + c channels."""

    def __init__(self, inputs: int):
        self.branch3x3_1 = Unit(inputs, 192, (1, 1))
        self.branch3x3_2 = shrink(192, 320)
        self.branch7x7x3_1 = Unit(inputs, 192, (1, 1))
        self.branch7x7x3_2 = Unit(192, 192, (1, 7))
        self.branch7x7x3_3 = Unit(192, 192, (7, 1))
        self.branch7x7x3_4 = shrink(192, 192)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        branches = [
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))),
            halving_max(x),
        ]
        return jnp.concatenate(branches, -1)


class BlockE(nnx.Module):
    """Branches of 1x1, 3x3 and twice 3x3, which end in a row beside a column, and a pool; to 2048 channels.

    Args:
      last: whether this is the network's last block, whose pool is a maximum.
    """

    def __init__(self, inputs: int, *, last: bool):
        self.branch1x1 = Unit(inputs, 320, (1, 1))
        self.branch3x3_1 = Unit(inputs, 384, (1, 1))
        self.branch3x3_2a = Unit(384, 384, (1, 3))
        self.branch3x3_2b = Unit(384, 384, (3, 1))
        self.branch3x3dbl_1 = Unit(inputs, 448, (1, 1))
        self.branch3x3dbl_2 = Unit(448, 384, (3, 3))
        self.branch3x3dbl_3a = Unit(384, 384, (1, 3))
        self.branch3x3dbl_3b = Unit(384, 384, (3, 1))
        self.branch_pool = Unit(inputs, 192, (1, 1))
        self.last = last

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(local_max(x) if self.last else local_mean(x)),
        ]
        return jnp.concatenate(branches, -1)


class InceptionV3(nnx.Module):
    """Pixels in [0, 255] to the 2048 values of the last pool."""

    def __init__(self) -> None:
        self.Conv2d_1a_3x3 = shrink(3, 32)
        self.Conv2d_2a_3x3 = Unit(32, 32, (3, 3), padding="VALID")
        self.Conv2d_2b_3x3 = Unit(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Unit(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Unit(80, 192, (3, 3), padding="VALID")
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, last=False)
        self.Mixed_7c = BlockE(2048, last=True)

    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        """FID's frames are of 299x299; 75x75 are the smallest that give features."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels / 127.5 - 1)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halving_max(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(halving_max(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return jnp.mean(x, (1, 2))
