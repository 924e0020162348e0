"""Small values mean what people write, and come back as they were."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.api.quantities import (
    parse_duration,
    parse_memory,
    parse_percent,
    parse_points,
    print_duration,
    print_memory,
    print_percent,
    print_points,
    readable_bytes,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("2m", 120), ("1h", 3600), ("1h30m", 5400), ("90d", 7_776_000), ("0s", 0)],
)
def test_a_duration_means_what_it_says(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "1.5h", "1d12h", "5m1h", "1w", "30s "])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted a duration"):
        parse_duration(text)


@given(seconds=st.integers(0, 10**8))
def test_a_printed_duration_reads_back(seconds: int) -> None:
    assert parse_duration(print_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("80Gi", 85_899_345_920), ("1.5Gi", 1_610_612_736), ("1k", 1000), ("512", 512), ("0.001Ki", 2)],
)
def test_memory_means_what_it_says(text: str, count: int) -> None:
    assert parse_memory(text) == count


@pytest.mark.parametrize("text", ["", "Gi", "80GB", "-1Gi", "80 Gi", "80gi"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted an amount of memory"):
        parse_memory(text)


@given(count=st.integers(0, 2**62))
def test_printed_memory_reads_back(count: int) -> None:
    assert parse_memory(print_memory(count)) == count


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (988_097_824, "942.3 MiB")])
def test_bytes_for_people_are_rounded(count: int, text: str) -> None:
    assert readable_bytes(count) == text


@pytest.mark.parametrize(("text", "ratio"), [("10%", 0.1), ("0.5%", 0.005), ("100%", 1.0)])
def test_a_percentage_is_a_ratio(text: str, ratio: float) -> None:
    assert parse_percent(text) == ratio
    assert print_percent(ratio) == text


def test_points_are_a_difference_of_ratios() -> None:
    assert parse_points("1pp") == 0.01
    assert print_points(0.01) == "1pp"


@pytest.mark.parametrize("text", ["10", "-1%", "1pp", "ten%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted a percentage"):
        parse_percent(text)


@pytest.mark.parametrize("text", ["1", "1%"])
def test_what_are_no_points_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted percentage points"):
        parse_points(text)
