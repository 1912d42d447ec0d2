"""Protocols and published tables fit together."""

import pytest

from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.evaluation.published import PUBLISHED
from aa_jax.evaluation.report import COMPARED
from aa_jax.evaluation.suite import INFO, VALUES, build_suite


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_metric_is_there_or_says_what_it_needs(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name and set(protocol.metrics) <= set(INFO)
    synthetic = protocol.num_frames is not None
    suite = build_suite(protocol, networks=None, face=None, flow=None, synthetic=synthetic)
    assert set(suite.values) | set(suite.unavailable) == set(protocol.metrics) and not suite.features
    assert all(reason.startswith("needs ") for reason in suite.unavailable.values())
    lacking = {metric for metric in suite.unavailable if metric in VALUES}
    assert lacking == (set() if synthetic else {"warping_error"})


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if protocol.published])
def test_published_columns_are_held_against_metrics_of_the_protocol(name):
    protocol = PROTOCOLS[name]
    for row in PUBLISHED[protocol.published].rows:
        for column in row.values:
            assert set(COMPARED[column]) & set(protocol.metrics)


def test_psnrs_that_overflow_are_in_a_column_of_their_own():
    """A true PSNR of 35 dB would be that of nearly equal images."""
    for table in PUBLISHED.values():
        for row in table.rows:
            assert row.values.get("psnr", 0) < 28 < row.values.get("psnr_uint8_overflow", 99)
