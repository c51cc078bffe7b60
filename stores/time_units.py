"""The periods of a time zone, such as months, as labels: ``2026-11``.

| unit | label |
| --- | --- |
| minute | ``2026-11-01 01:30`` |
| hour | ``2026-11-01 01`` |
| day | ``2026-11-01`` |
| week (ISO 8601) | ``2026-W44`` |
| month | ``2026-11`` |
| year | ``2026`` |

When clocks are put back, an hour comes twice. Both are periods of their own, with their offsets from UTC in the label:
``2026-11-01 01-04:00`` and ``2026-11-01 01-05:00``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from stores.aggregation import Unit

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = 60_000
_WHOLE_MINUTES: Final = 94_694_400_000
"""1973 in Unix ms. Since 1972 all zones differ from UTC by whole minutes, so a minute of UTC is one of every zone."""
_MOST_KEPT: Final = 10_000
_LONGEST: Final = 40
"""Characters of a time as text."""

_FORMATS: Final[dict[Unit, Callable[[datetime], str]]] = {
    "minute": lambda t: f"{t.year:04}-{t.month:02}-{t.day:02} {t.hour:02}:{t.minute:02}",
    "hour": lambda t: f"{t.year:04}-{t.month:02}-{t.day:02} {t.hour:02}",
    "day": lambda t: f"{t.year:04}-{t.month:02}-{t.day:02}",
    "week": lambda t: "{:04}-W{:02}".format(*t.isocalendar()[:2]),
    "month": lambda t: f"{t.year:04}-{t.month:02}",
    "year": lambda t: f"{t.year:04}",
}
_LENGTHS: Final[dict[Unit, timedelta]] = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
"""The lengths of the units of which a zone may have one twice."""
_INSTANT: Final = timedelta(microseconds=1)


class TimeLabels:
    """The labels of one unit in one zone, an IANA name."""

    def __init__(self, unit: Unit, zone: str) -> None:
        self._format = _FORMATS[unit]
        self._length = _LENGTHS.get(unit)
        self._zone = None if zone == "UTC" else ZoneInfo(zone)
        self._kept: dict[int, str | None] = {}

    def label(self, value: Any) -> str | None:
        """Return the label of the period of a value; None if the value is no time of the years 1 to 9999.

        Times are Unix milliseconds and ISO 8601 texts, in UTC unless they name an offset. A date is the beginning of
        that day in every zone.
        """
        time = _time(value)
        if time is None:
            return None
        if isinstance(time, datetime):
            return self._format(time)
        if time < _WHOLE_MINUTES:
            return self._at(time)
        minute = time // _MINUTE
        if minute in self._kept:
            return self._kept[minute]
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        label = self._kept[minute] = self._at(time)
        return label

    def _at(self, time: int) -> str | None:
        try:
            moment = _EPOCH + timedelta(milliseconds=time)
            if self._zone is None:
                return self._format(moment)
            local = moment.astimezone(self._zone)
            return self._format(local) + (_offset(local) if self._comes_twice(local) else "")
        except OverflowError:
            return None

    def _comes_twice(self, local: datetime) -> bool:
        """Return whether the clocks of the zone show this hour or minute, or a part of it, twice."""
        if self._length is None:
            return False
        first = local.replace(second=0, microsecond=0, fold=0)
        if self._length > timedelta(minutes=1):
            first = first.replace(minute=0)
        last = (first + (self._length - _INSTANT)).replace(fold=1)
        return _seconds(first) > _seconds(last)


def _time(value: Any) -> int | datetime | None:
    """Return a time as Unix ms, a date as its beginning without a zone, and None for anything else."""
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is float:
        return int(value // 1)
    if kind is not str or len(value) > _LONGEST or value[4:5] != "-" or value[7:8] != "-":
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if len(value) == len("2026-11-26"):
        return moment
    if value[10] not in " T":
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _seconds(local: datetime) -> float:
    offset = local.utcoffset()
    assert offset is not None
    return offset.total_seconds()


def _offset(local: datetime) -> str:
    """Return the offset from UTC: ``-04:00``; with seconds where a zone had such an offset."""
    seconds = int(_seconds(local))
    hours, rest = divmod(abs(seconds), 3600)
    text = f"{'-' if seconds < 0 else '+'}{hours:02}:{rest // 60:02}"
    return f"{text}:{rest % 60:02}" if rest % 60 else text
