"""The metrics' networks in PyTorch, written from the papers and the published layouts, with random weights.

Their state dicts have the published files' keys.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import nn


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Weights that keep activations of order one, and norms whose four vectors all matter; for inference."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size, scale: float) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator)

    def between(shape: torch.Size, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
                layer.weight.copy_(normal(layer.weight.shape, (2 / layer.weight[0].numel()) ** 0.5))
                if layer.bias is not None:
                    layer.bias.copy_(normal(layer.bias.shape, 0.1))
            elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                layer.weight.copy_(between(layer.weight.shape, 0.5, 1.5))
                layer.bias.copy_(normal(layer.bias.shape, 0.2))
                layer.running_mean.copy_(normal(layer.running_mean.shape, 0.2))
                layer.running_var.copy_(between(layer.running_var.shape, 0.3, 2))
    return module.eval()


class Features(nn.Module):
    """torchvision's AlexNet or VGG: `features`, and a classifier, here a small one."""

    def __init__(self, layers: list[nn.Module], taps: tuple[int, ...]):
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
        self.taps = taps

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = []
        for layer in self.features:
            x = layer(x)
            outputs.append(x)
        return [outputs[tap] for tap in self.taps]


def alexnet(pretrained: bool = False) -> Features:
    """As in torchvision."""
    return Features(
        [
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(3, 2),
        ],
        taps=(1, 4, 7, 9, 11),
    )  # fmt: skip


def vgg16(pretrained: bool = False) -> Features:
    """As in torchvision, configuration D."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return Features(layers, taps=(3, 8, 15, 22, 29))


class Heads(nn.Module):
    """LPIPS's five 1x1 convolutions, each behind a dropout."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        for number, width in enumerate(widths):
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{number}", head)


def lpips_distance(tower: Features, heads: Heads, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Equation 1 of the paper, images (b, 3, h, w)."""
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    total = torch.zeros(len(one))
    features = zip(tower((one - shift) / scale), tower((other - shift) / scale), heads.children(), strict=True)
    for a, b, head in features:
        a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
        total = total + head.model((a - b).square()).mean((1, 2, 3))
    return total


def unit2d(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding=0) -> nn.Module:
    """Convolution, batch norm and ReLU."""
    unit = nn.Sequential()
    unit.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False))
    unit.add_module("bn", nn.BatchNorm2d(outputs, eps=0.001))
    unit.add_module("relu", nn.ReLU())
    return unit


class Branches(nn.Module):
    """Branches, each a list of named units, or pairs of units that both follow what came before, and a pool's."""

    def __init__(self, branches: list[list], pool: Callable, pooled: nn.Module | None):
        super().__init__()
        self.plan = branches
        for branch in branches:
            for step in branch:
                for name, unit in step if isinstance(step, list) else [step]:
                    self.add_module(name, unit)
        self.pool = pool
        self.branch_pool = pooled or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for branch in self.plan:
            y = x
            for step in branch:
                y = torch.cat([unit(y) for _, unit in (step if isinstance(step, list) else [step])], 1)
            outputs.append(y)
        return torch.cat([*outputs, self.branch_pool(self.pool(x))], 1)


def mean3(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max3(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, stride=2)


def block_a(c: int, pooled: int) -> Branches:
    return Branches(
        [
            [("branch1x1", unit2d(c, 64, 1))],
            [("branch5x5_1", unit2d(c, 48, 1)), ("branch5x5_2", unit2d(48, 64, 5, padding=2))],
            [
                ("branch3x3dbl_1", unit2d(c, 64, 1)),
                ("branch3x3dbl_2", unit2d(64, 96, 3, padding=1)),
                ("branch3x3dbl_3", unit2d(96, 96, 3, padding=1)),
            ],
        ],
        mean3,
        unit2d(c, pooled, 1),
    )


def block_b(c: int) -> Branches:
    return Branches(
        [
            [("branch3x3", unit2d(c, 384, 3, stride=2))],
            [
                ("branch3x3dbl_1", unit2d(c, 64, 1)),
                ("branch3x3dbl_2", unit2d(64, 96, 3, padding=1)),
                ("branch3x3dbl_3", unit2d(96, 96, 3, stride=2)),
            ],
        ],
        halve,
        None,
    )


def block_c(c: int, m: int) -> Branches:
    row = {"kernel": (1, 7), "padding": (0, 3)}
    column = {"kernel": (7, 1), "padding": (3, 0)}
    return Branches(
        [
            [("branch1x1", unit2d(c, 192, 1))],
            [
                ("branch7x7_1", unit2d(c, m, 1)),
                ("branch7x7_2", unit2d(m, m, **row)),
                ("branch7x7_3", unit2d(m, 192, **column)),
            ],
            [
                ("branch7x7dbl_1", unit2d(c, m, 1)),
                ("branch7x7dbl_2", unit2d(m, m, **column)),
                ("branch7x7dbl_3", unit2d(m, m, **row)),
                ("branch7x7dbl_4", unit2d(m, m, **column)),
                ("branch7x7dbl_5", unit2d(m, 192, **row)),
            ],
        ],
        mean3,
        unit2d(c, 192, 1),
    )


def block_d(c: int) -> Branches:
    return Branches(
        [
            [("branch3x3_1", unit2d(c, 192, 1)), ("branch3x3_2", unit2d(192, 320, 3, stride=2))],
            [
                ("branch7x7x3_1", unit2d(c, 192, 1)),
                ("branch7x7x3_2", unit2d(192, 192, (1, 7), padding=(0, 3))),
                ("branch7x7x3_3", unit2d(192, 192, (7, 1), padding=(3, 0))),
                ("branch7x7x3_4", unit2d(192, 192, 3, stride=2)),
            ],
        ],
        halve,
        None,
    )


def block_e(c: int, pool: Callable) -> Branches:
    def ends(name: str) -> list:
        return [
            (f"{name}a", unit2d(384, 384, (1, 3), padding=(0, 1))),
            (f"{name}b", unit2d(384, 384, (3, 1), padding=(1, 0))),
        ]

    return Branches(
        [
            [("branch1x1", unit2d(c, 320, 1))],
            [("branch3x3_1", unit2d(c, 384, 1)), ends("branch3x3_2")],
            [
                ("branch3x3dbl_1", unit2d(c, 448, 1)),
                ("branch3x3dbl_2", unit2d(448, 384, 3, padding=1)),
                ends("branch3x3dbl_3"),
            ],
        ],
        pool,
        unit2d(c, 192, 1),
    )


class Inception(nn.Module):
    """pytorch-fid's: frames in [0, 1], (b, 3, h, w), resized here, to (b, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = unit2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = unit2d(32, 32, 3)
        self.Conv2d_2b_3x3 = unit2d(32, 64, 3, padding=1)
        self.pool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = unit2d(64, 80, 1)
        self.Conv2d_4a_3x3 = unit2d(80, 192, 3)
        self.pool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = block_a(192, 32), block_a(256, 64), block_a(288, 64)
        self.Mixed_6a, self.Mixed_6b, self.Mixed_6c = block_b(288), block_c(768, 128), block_c(768, 160)
        self.Mixed_6d, self.Mixed_6e = block_c(768, 160), block_c(768, 192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = block_d(768), block_e(1280, mean3), block_e(2048, max3)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: torch.Tensor, size: int = 299) -> torch.Tensor:
        x = 2 * F.interpolate(x, (size, size), mode="bilinear", align_corners=False) - 1
        for name, layer in self.named_children():
            if name != "fc":
                x = layer(x)
        return x.mean((2, 3))


def pad_same(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """TensorFlow's rule: as many outputs as strides begin within the input; the odd zero goes after."""
    amounts: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        outputs = -(-size // s)
        total = max((outputs - 1) * s + k - size, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts)


class SameConv(nn.Module):
    """I3D's unit."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, last: bool = False):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, size, stride, bias=last)
        if not last:
            self.bn = nn.BatchNorm3d(outputs, eps=0.001)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv3d(pad_same(x, self.conv3d.kernel_size, self.conv3d.stride))
        return x if self.last else F.relu(self.bn(x))


class SamePool(nn.Module):
    """I3D's pool, zeros around."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """I3D's block."""

    def __init__(self, c: int, single: int, narrow: int, wide: int, narrow2: int, wide2: int, pooled: int):
        super().__init__()
        self.b0 = SameConv(c, single, 1)
        self.b1a, self.b1b = SameConv(c, narrow, 1), SameConv(narrow, wide, 3)
        self.b2a, self.b2b = SameConv(c, narrow2, 1), SameConv(narrow2, wide2, 3)
        self.b3a, self.b3b = SamePool((3, 3, 3), (1, 1, 1)), SameConv(c, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], 1)


class I3D(nn.Module):
    """pytorch-i3d's: (b, 3, t, h, w) in [-1, 1] to (b, 400)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = SameConv(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = SameConv(64, 64, 1)
        self.Conv3d_2c_3x3 = SameConv(64, 192, 3)
        self.MaxPool3d_3a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = Mixed(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = Mixed(256, 128, 128, 192, 32, 96, 64)
        self.MaxPool3d_4a_3x3 = SamePool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = Mixed(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = Mixed(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = Mixed(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = Mixed(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = Mixed(528, 256, 160, 320, 32, 128, 128)
        self.MaxPool3d_5a_2x2 = SamePool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = Mixed(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = Mixed(832, 384, 192, 384, 48, 128, 128)
        self.logits = SameConv(1024, 400, 1, last=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, layer in self.named_children():
            if name != "logits":
                x = layer(x)
        # DisCo pools space alone; the original also over two steps of time, all there are of 16 frames.
        return self.logits(F.avg_pool3d(x, (1, *x.shape[3:]))).mean((2, 3, 4))


class Bottleneck(nn.Module):
    """The 3-D ResNet's block; the middle convolution has the stride."""

    def __init__(self, c: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(c, width, 1, bias=False), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = nn.Conv3d(width, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = nn.Conv3d(width, 4 * width, 1, bias=False), nn.BatchNorm3d(4 * width)
        self.downsample = nn.Sequential()
        if c != 4 * width or stride != 1:
            self.downsample.append(nn.Conv3d(c, 4 * width, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm3d(4 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet3D(nn.Module):
    """Hara et al.'s ResNet-50 with shortcuts B: (b, 3, t, h, w), pixels less their mean, to (b, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)

        def stage(c: int, width: int, depth: int, stride: int) -> nn.Sequential:
            rest = [Bottleneck(4 * width, width, 1) for _ in range(depth - 1)]
            return nn.Sequential(Bottleneck(c, width, stride), *rest)

        self.layer1, self.layer2 = stage(64, 64, 3, 1), stage(256, 128, 4, 2)
        self.layer3, self.layer4 = stage(512, 256, 6, 2), stage(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 400)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3, 4))


def pillow_bicubic(frame: np.ndarray, size: int) -> np.ndarray:
    """DisCo's resizer: each channel of (h, w, 3) as an image of floats."""
    channels = [Image.fromarray(frame[..., channel].astype(np.float32)) for channel in range(3)]
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in channels], -1)
