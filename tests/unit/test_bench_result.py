"""What was measured is told in a few numbers."""

from __future__ import annotations

import pytest

from tests.bench.result import Figure, sample


def test_the_figure_of_several_values_is_their_median() -> None:
    assert Figure.of("s", "c", "w", "ms", [9.0, 1.0, 2.0]).value == 2.0


def test_a_figure_of_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        Figure.of("s", "c", "w", "ms", [])


def test_few_values_keep_their_order() -> None:
    assert Figure.of("s", "c", "w", "ms", [3.0, 1.0, 2.0]).spread == (3.0, 1.0, 2.0)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 201)]
    assert sample(values) == {"n": 200, "p50": 100.5, "p99": 198.0, "max": 200.0, "min": 1.0}
