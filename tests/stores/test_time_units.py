"""Labels of periods: units, zones, hours that come twice, and values that are no times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stores.aggregation import UNITS, Unit
from stores.time_units import TimeLabels


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def label(unit: Unit, zone: str, value: object) -> str | None:
    return TimeLabels(unit, zone).label(value)


def test_every_unit_has_its_label() -> None:
    at = ms("2026-11-26 06:05:59.999")
    labels = [label(unit, "UTC", at) for unit in UNITS]
    assert labels == ["2026-11-26 06:05", "2026-11-26 06", "2026-11-26", "2026-W48", "2026-11", "2026"]


@pytest.mark.parametrize(
    ("date", "week"), [("2026-11-05", "2026-W45"), ("2027-01-01", "2026-W53"), ("2024-12-30", "2025-W01")]
)
def test_weeks_are_those_of_iso_8601(date: str, week: str) -> None:
    assert label("week", "UTC", date) == week


def test_periods_are_those_of_the_zone() -> None:
    at = ms("2026-11-01 03:30")
    assert label("month", "UTC", at) == "2026-11"
    assert label("month", "America/Toronto", at) == "2026-10"
    assert label("hour", "Asia/Kathmandu", at) == "2026-11-01 09"


@pytest.mark.parametrize(
    "value",
    [
        1_795_672_800_000,
        1_795_672_800_000.9,
        "2026-11-26 06:00:00",
        "2026-11-26T06:00:00Z",
        "2026-11-26T07:00:00.5+01:00",
        "2026-11-26T06:00",
    ],
)
def test_times_are_milliseconds_and_iso_8601(value: object) -> None:
    """Text without an offset is in UTC."""
    assert label("minute", "UTC", value) == "2026-11-26 06:00"
    assert label("minute", "America/Toronto", value) == "2026-11-26 01:00"


def test_a_date_has_no_zone() -> None:
    for zone in ("UTC", "America/Toronto", "Pacific/Auckland"):
        assert label("day", zone, "2026-11-01") == "2026-11-01"
        assert label("month", zone, "2026-11-01") == "2026-11"


@pytest.mark.parametrize(
    "value",
    [
        "", "x", "2026", "2026-11", "20261126", "2026-W45-1", "2026-02-30", "2026-11-26 25:00:00",
        "2026-11-26x06:00:00",
        "2026-11-26" + " " * 1_000, None, True, [], {}, 10**30, -(10**30), 1e300, "9999-12-31T23:59:59-12:00",
    ],
)  # fmt: skip
def test_anything_else_has_no_label(value: object) -> None:
    for unit in UNITS:
        assert label(unit, "Asia/Tokyo", value) is None, unit


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    """In Toronto the clocks went back from 02:00 to 01:00."""
    times = ["2026-11-01 04:59", "2026-11-01 05:00", "2026-11-01 05:59", "2026-11-01 06:00", "2026-11-01 07:00"]
    hours, minutes, days = ([label(u, "America/Toronto", ms(t)) for t in times] for u in ("hour", "minute", "day"))
    assert hours == [
        "2026-11-01 00",
        "2026-11-01 01-04:00",
        "2026-11-01 01-04:00",
        "2026-11-01 01-05:00",
        "2026-11-01 02",
    ]
    assert minutes[1:4] == ["2026-11-01 01:00-04:00", "2026-11-01 01:59-04:00", "2026-11-01 01:00-05:00"]
    assert set(days) == {"2026-11-01"}


def test_of_an_hour_that_comes_twice_in_part_both_are_told_apart() -> None:
    """On Lord Howe Island the clocks go back by half an hour, from 02:00 to 01:30."""
    times = ["2026-04-04 14:00", "2026-04-04 14:30", "2026-04-04 15:00", "2026-04-04 15:30"]
    assert [label("hour", "Australia/Lord_Howe", ms(t)) for t in times] == [
        "2026-04-05 01+11:00",
        "2026-04-05 01+11:00",
        "2026-04-05 01+10:30",
        "2026-04-05 02",
    ]
    assert label("minute", "Australia/Lord_Howe", ms("2026-04-04 14:00")) == "2026-04-05 01:00"
    assert label("minute", "Australia/Lord_Howe", ms("2026-04-04 15:00")) == "2026-04-05 01:30+10:30"


def test_an_hour_that_is_left_out_bears_no_offset() -> None:
    """In Toronto the clocks went forward from 02:00 to 03:00."""
    times = ["2026-03-08 06:59", "2026-03-08 07:00"]
    assert [label("hour", "America/Toronto", ms(t)) for t in times] == ["2026-03-08 01", "2026-03-08 03"]


def test_offsets_of_seconds_are_exact() -> None:
    """Until 1972 the clocks in Monrovia were 44 minutes and 30 seconds behind UTC."""
    labels = TimeLabels("minute", "Africa/Monrovia")
    found = [labels.label(ms(text)) for text in ("1971-06-01 12:00:00", "1971-06-01 12:00:29", "1971-06-01 12:00:30")]
    assert found == ["1971-06-01 11:15", "1971-06-01 11:15", "1971-06-01 11:16"]


def test_kept_labels_are_bounded() -> None:
    labels = TimeLabels("minute", "America/Toronto")
    start = ms("2026-01-01 05:00")
    for minute in range(25_000):
        labels.label(start + minute * 60_000)
    assert len(labels._kept) <= 10_000
    assert labels.label(start) == "2026-01-01 00:00"
