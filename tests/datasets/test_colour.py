"""Colour changes against what they are defined by."""

import colorsys

import numpy as np
import pytest

from aa_jax.data.colour import LUMA, ColourJitter, change_colours


class Highest:
    """A generator that always draws the upper end."""

    def uniform(self, low, high):
        return high


IMAGE = np.random.default_rng(0).integers(60, 190, (5, 6, 3)).astype(np.uint8)


def changed(**strengths):
    return change_colours(IMAGE, ColourJitter(**strengths).draw(Highest())).astype(float)


def test_no_strength_changes_nothing():
    np.testing.assert_array_equal(changed(), IMAGE)


def test_brightness_and_contrast():
    np.testing.assert_allclose(changed(brightness=0.2), IMAGE * 1.2, atol=0.51)
    np.testing.assert_allclose(changed(contrast=0.2), 127.5 + (IMAGE - 127.5) * 1.2, atol=0.51)


def test_saturation_keeps_luma_and_stretches_the_rest():
    luma = (IMAGE @ LUMA)[..., None]
    np.testing.assert_allclose(changed(saturation=0.2), luma + (IMAGE - luma) * 1.2, atol=0.51)


def test_hue_turns_red_to_green():
    red = np.array([[200, 50, 50]], np.uint8)
    turned = change_colours(red, ColourJitter(hue=1 / 3).draw(Highest()))
    hue, *_ = colorsys.rgb_to_hsv(*turned[0] / 255)
    assert abs(hue - 1 / 3) < 0.01 or abs(hue - 2 / 3) < 0.01
    assert abs(int(turned.sum()) - 300) <= 2


@pytest.mark.parametrize("strengths", [{"brightness": -0.1}, {"contrast": 1.1}, {"hue": 0.6}])
def test_bad_strengths(strengths):
    with pytest.raises(ValueError, match="expected 0 to"):
        ColourJitter(**strengths)
