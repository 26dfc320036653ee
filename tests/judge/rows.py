"""Rows of the table, and their comparison with the expected counts.

A key (window and wiki) may have one row per partition until its hour is final, so rows are summed,
as readers of the table do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from report import Report

COLUMNS = ("window_start", "window_end", "wiki", "edits", "dt")
MICROS = 1_000_000

# The start of the window in seconds since 1970, and the wiki.
Key = tuple[int, str]


class Row(NamedTuple):
    """A row; times in microseconds since 1970."""

    start: int
    end: int
    wiki: str
    edits: int
    dt: str

    def __str__(self) -> str:
        return f"{show((self.start // MICROS, self.wiki))} {self.edits}"


def check_sums(rows: Iterable[Row], expected: Counter[Key], window: int, report: Report, where: str = "") -> None:
    """The rows are windows, and their sums are exactly the expected counts."""
    sums: Counter[Key] = Counter()
    for row in rows:
        sums[row.start // MICROS, row.wiki] += row.edits
        if row.end != row.start + window * MICROS or row.start % (window * MICROS):
            report.violation("bad_row", f"{where}{row} is no window of {window} s: {row.start} to {row.end}")
        if row.dt != date(row.start) or row.edits < 1:
            report.violation("bad_row", f"{where}{row} has dt {row.dt}")
    for key in sorted(sums.keys() | expected.keys()):
        name = where + show(key)
        if key not in sums:
            report.violation("missing_row", f"{name}: {expected[key]} edits, no row")
        elif key not in expected:
            report.violation("extra_row", f"{name}: {sums[key]} edits, none expected")
        elif sums[key] != expected[key]:
            report.violation("wrong_count", f"{name}: {sums[key]} edits, {expected[key]} expected")


def date(micros: int) -> str:
    return datetime.fromtimestamp(micros // MICROS, UTC).date().isoformat()


def show(key: Key) -> str:
    return f"{datetime.fromtimestamp(key[0], UTC):%Y-%m-%dT%H:%M:%S} {key[1]}"
