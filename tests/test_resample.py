"""Resizing inside a program, beside Pillow's."""

import jax
import numpy as np
import pytest
from PIL import Image

from aa_jax.resample import resize_bicubic

SIZES = [((52, 44), (28, 33)), ((31, 77), (64, 48)), ((9, 5), (9, 5)), ((640, 200), (24, 224)), ((2, 3), (40, 1))]


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_it_is_pillow_s(size, target):
    rng = np.random.default_rng(0)
    for image in (rng.integers(0, 256, (*size, 3), np.uint8), rng.choice(np.uint8([0, 255]), (*size, 3))):
        expected = Image.fromarray(image).resize(target[::-1], Image.Resampling.BICUBIC)
        found = jax.jit(resize_bicubic, static_argnums=(1, 2))(image, *target)
        np.testing.assert_array_equal(found, np.asarray(expected))
