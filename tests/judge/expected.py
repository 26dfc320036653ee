"""What the table must say, recomputed from the events alone.

A row is a minute (or another tumbling window of `/timestamp`, seconds) and a wiki; `edits` is the
number of events with both. An event without a wiki or a timestamp is skipped, a canary event
(`/meta/domain` is `canary`) is filtered, and one from further in the future than a bound is not
counted either.

A late event, one whose hour was final for its partition when it was read, is not counted. Which
those are follows from the watermarks that the log says were committed at the time; and those are
not believed either: a commit's watermark is the largest event time up to it minus the delay, or
it was taken over from another partition.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from archive import Archive
from deltalog import Lane, Log, Step
from events import at, digest, parse, read_lines, text_at
from rows import Key

HOUR = 3600
# Before 1901 and from 2262 on not all readers of tables agree on times; such an event has none.
EARLIEST, LATEST = -2_177_452_800, 9_214_646_400


class Reading(NamedTuple):
    """When an event happened, in milliseconds, and what it counts for; None where there is none."""

    millis: int | None
    key: Key | None


@dataclass(frozen=True)
class Rules:
    """What is counted where. All in seconds, `future` since 1970."""

    window: int
    lateness: int
    delay: int
    future: float

    def read(self, line: bytes) -> Reading:
        event = parse(line)
        time, wiki = at(event, "/timestamp"), text_at(event, "/wiki")
        if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
            return Reading(None, None)
        if not EARLIEST <= time < LATEST or time > self.future:
            return Reading(None, None)
        millis = math.floor(time * 1000)
        if wiki is None or text_at(event, "/meta/domain") == "canary":
            return Reading(millis, None)
        return Reading(millis, (millis // 1000 // self.window * self.window, wiki))

    def late(self, key: Key, watermark: int | None) -> bool:
        """Whether the window's hour was final at this watermark."""
        unit = max(self.window, HOUR)
        end = (key[0] // unit + 1) * unit
        return watermark is not None and watermark >= (end + self.lateness) * 1000


def of_events(path: Path, rules: Rules) -> Counter[Key]:
    """The whole events file."""
    return Counter(key for line in read_lines(path) if (key := rules.read(line).key) is not None)


class Positions:
    """What an archive's lines say by partition and offset, to recompute any prefix of them.

    The archive is trusted only as far as its lines are served events.
    """

    def __init__(self, archive: Archive, events: Path, rules: Rules) -> None:
        self.archive = archive
        self.report = archive.report
        self.served = {digest(line) for line in read_lines(events)}
        self.rules = rules
        self.lanes: dict[Lane, list[tuple[int, Reading]]] = {}
        self.ends: dict[Lane, int] = {}

    def counts(self, ends: dict[Lane, int], log: Log) -> Counter[Key]:
        """The rows once each partition is in the table up to its `next`."""
        counts: Counter[Key] = Counter()
        for lane, end in ends.items():
            readings = self._readings(lane)
            if self.ends[lane] < end:
                where = f"in the table up to {end}, in the archive up to {self.ends[lane]}"
                self.report.violation("gap", f"{show(lane)} is {where}")
            steps = log.history.get(lane, [])
            nexts = [step.next for step in steps]
            for offset, reading in readings:
                if offset >= end:
                    break
                commit = bisect_right(nexts, offset)
                judge = steps[commit].judge if commit < len(steps) else None
                if reading.key is not None and not self.rules.late(reading.key, judge):
                    counts[reading.key] += 1
        return counts

    def check_watermarks(self, log: Log) -> None:
        """Every committed watermark is what the records make it."""
        for lane, steps in log.history.items():
            readings = iter(self._readings(lane))
            ahead = next(readings, None)
            newest = None
            for step in steps:
                while ahead is not None and ahead[0] < step.next:
                    if (millis := ahead[1].millis) is not None:
                        newest = max(millis, millis if newest is None else newest)
                    ahead = next(readings, None)
                own = None if newest is None else newest - self.rules.delay * 1000
                expected = max((mark for mark in (own, step.judge) if mark is not None), default=None)
                if step.watermark != expected and not followed(log, lane, step, expected):
                    where = f"version {step.version}, {show(lane)}"
                    self.report.violation(
                        "wrong_watermark", f"{where}: {step.watermark}, by the records it is {expected}"
                    )

    def _readings(self, lane: Lane) -> list[tuple[int, Reading]]:
        if lane not in self.lanes:
            chain = self.archive.chain(*lane)
            self.ends[lane] = chain[-1].next if chain else 0
            self.lanes[lane] = []
            for entry in chain:
                lines = self.archive.lines(entry, self.archive.resolve(entry.final)) if entry.final else None
                for offset, line in zip(entry.offsets(), lines or ()):
                    if digest(line) not in self.served:
                        self.report.violation("altered", f"{entry} offset {offset}: no served event is this line")
                    self.lanes[lane].append((offset, self.rules.read(line)))
        return self.lanes[lane]


def followed(log: Log, lane: Lane, step: Step, own: int | None) -> bool:
    """Whether a larger watermark was taken over from another partition, as an idle one does."""
    return (own is None or (step.watermark is not None and step.watermark > own)) and any(
        other.watermark == step.watermark
        for name, steps in log.history.items()
        if name != lane
        for other in steps
        if other.version <= step.version
    )


def show(lane: Lane) -> str:
    return f"partition {lane.partition} of {lane.topic_id}"
