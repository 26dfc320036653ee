"""What the table must say, recomputed from the events alone.

A row is a minute (or another tumbling window of `/timestamp`, seconds) and a wiki; `edits` is the
number of events with both. An event without a wiki or a timestamp is skipped, a canary event
(`/meta/domain` is `canary`) is filtered, and one from further in the future than a bound is not
counted either. A late event, one whose hour was final when it was read, is not counted: which
those are follows from the watermarks that the log says were committed at the time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from archive import Archive
from deltalog import Lane, Log
from events import at, digest, parse, read_lines, text_at
from rows import Key

HOUR = 3600
# The first and the last second that have a date of four digits.
EARLIEST, LATEST = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True)
class Rules:
    """What is counted where."""

    window: int
    future: float
    lateness: int

    def key(self, line: bytes) -> Key | None:
        """The window and wiki that an event counts for, if it counts."""
        event = parse(line)
        time, wiki = at(event, "/timestamp"), text_at(event, "/wiki")
        if wiki is None or isinstance(time, bool) or not isinstance(time, int | float):
            return None
        if text_at(event, "/meta/domain") == "canary" or not math.isfinite(time):
            return None
        if not EARLIEST <= time <= min(LATEST, self.future):
            return None
        return int(time // self.window) * self.window, wiki

    def late(self, key: Key, watermark_ms: int | None) -> bool:
        """Whether the window's hour was final at this watermark."""
        width = max(self.window, HOUR)
        end = (key[0] // width + 1) * width
        return watermark_ms is not None and watermark_ms > (end + self.lateness) * 1000


def of_events(path: Path, rules: Rules) -> Counter[Key]:
    """The whole events file."""
    return Counter(key for line in read_lines(path) if (key := rules.key(line)) is not None)


class Positions:
    """The keys of an archive's lines by partition and offset, to recompute any prefix of them.

    The archive is trusted only as far as its lines are served events.
    """

    def __init__(self, archive: Archive, events: Path, rules: Rules) -> None:
        self.archive = archive
        self.served = {digest(line) for line in read_lines(events)}
        self.rules = rules
        self.lanes: dict[Lane, list[tuple[int, Key]]] = {}
        self.ends: dict[Lane, int] = {}

    def counts(self, ends: dict[Lane, int], log: Log) -> Counter[Key]:
        """The rows once each partition is in the table up to its `next`."""
        counts: Counter[Key] = Counter()
        for lane, end in ends.items():
            keys = self._keys(lane)
            if self.ends[lane] < end:
                where = f"partition {lane.partition} of {lane.topic_id}"
                self.archive.report.violation(
                    "gap", f"{where} is in the table up to {end}, in the archive up to {self.ends[lane]}"
                )
            counts.update(self._accepted(keys, end, log.history.get(lane, [])))
        return counts

    def _accepted(self, keys: Iterable[tuple[int, Key]], end: int, history: list[tuple[int, int | None]]) -> Iterator[Key]:
        nexts = [next_ for next_, _ in history]
        for offset, key in keys:
            if offset >= end:
                return
            commit = bisect_right(nexts, offset)
            if commit == len(history) or not self.rules.late(key, history[commit][1]):
                yield key

    def _keys(self, lane: Lane) -> list[tuple[int, Key]]:
        if lane not in self.lanes:
            chain = self.archive.chain(*lane)
            self.ends[lane] = chain[-1].next if chain else 0
            self.lanes[lane] = []
            for entry in chain:
                lines = self.archive.lines(entry, self.archive.resolve(entry.final)) if entry.final else None
                for offset, line in zip(entry.offsets(), lines or ()):
                    if digest(line) not in self.served:
                        self.archive.report.violation("altered", f"{entry} offset {offset}: no served event is this line")
                    if (key := self.rules.key(line)) is not None:
                        self.lanes[lane].append((offset, key))
        return self.lanes[lane]
