"""The 3-D ResNet-50 of Hara et al. (arXiv 1711.09577; shortcuts of type B), trained on Kinetics-400
(`resnet-50-kinetics.pth`), as FID-VID takes it."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.metrics.networks.layers import BatchNorm, Conv

# Of Kinetics' pixels in [0, 255], RGB.
MEAN = (114.7748, 107.7354, 99.4750)
# Blocks of each stage.
DEPTHS = (3, 4, 6, 3)
EXPANSION = 4
EPSILON = 1e-5


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, which is a convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, *, stride: int):
        outputs = EXPANSION * width
        self.conv1 = Conv(inputs, width, (1, 1, 1))
        self.bn1 = BatchNorm(width, epsilon=EPSILON)
        self.conv2 = Conv(width, width, (3, 3, 3), stride=stride, padding=1)
        self.bn2 = BatchNorm(width, epsilon=EPSILON)
        self.conv3 = Conv(width, outputs, (1, 1, 1))
        self.bn3 = BatchNorm(outputs, epsilon=EPSILON)
        shortcut = [Conv(inputs, outputs, (1, 1, 1), stride=stride, padding=0), BatchNorm(outputs, epsilon=EPSILON)]
        self.downsample = nnx.List(shortcut if stride > 1 or inputs != outputs else [])

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 d"]:
        out = jax.nn.relu(self.bn1(self.conv1(x)))
        out = jax.nn.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        for layer in self.downsample:
            x = layer(x)
        return jax.nn.relu(out + x)


class ResNet3D(nnx.Module):
    """Pixels in [0, 255] to the 2048 values before the classifier."""

    def __init__(self) -> None:
        self.conv1 = Conv(3, 64, (7, 7, 7), stride=(1, 2, 2), padding=3)
        self.bn1 = BatchNorm(64, epsilon=EPSILON)
        channels = 64
        for number, depth in enumerate(DEPTHS):
            width, blocks = 64 * 2**number, []
            for index in range(depth):
                blocks.append(Bottleneck(channels, width, stride=2 if number and not index else 1))
                channels = EXPANSION * width
            setattr(self, f"layer{number + 1}", nnx.List(blocks))

    def __call__(self, pixels: Float[Array, "b t h w 3"]) -> Float[Array, "b 2048"]:
        """FID-VID's windows are 16 frames of 112x112."""
        x = jax.nn.relu(self.bn1(self.conv1(pixels - jnp.asarray(MEAN))))
        x = nnx.max_pool(x, (3, 3, 3), (2, 2, 2), ((1, 1),) * 3)
        for number in range(len(DEPTHS)):
            for block in getattr(self, f"layer{number + 1}"):
                x = block(x)
        return jnp.mean(x, (1, 2, 3))
