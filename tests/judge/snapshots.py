"""Judges what readers saw while the table was being written.

Each sample is a snapshot: the rows that one open of the table gave, and the positions (`next` per
partition) of the version it was. Its rows must be the recomputation of the archive's lines up to
those positions. DuckDB does not say which version it read; then one version between the newest
before and the newest after must fit.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from deltalog import Lane, Log
from expected import Positions
from report import Report
from rows import Key, Row, check_sums


def check_snapshots(samples: Path, positions: Positions, log: Log, window: int, report: Report) -> None:
    num_samples = 0
    cache: dict[str, Counter[Key]] = {}
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        num_samples += 1
        rows = [Row(*row) for row in sample["rows"]]
        attempts = []
        for version, ends in sample["positions"].items():
            if version not in cache:
                cache[version] = positions.counts(lanes(ends), log)
            attempt = Report()
            check_sums(rows, cache[version], window, attempt, f"{sample['reader']} at version {version}: ")
            attempts.append(attempt)
        if not attempts:
            report.violation("bad_log", f"{sample['reader']}: a sample without positions")
        elif all(attempt.counts for attempt in attempts):
            report.absorb(min(attempts, key=lambda attempt: attempt.counts.total()))
    if not num_samples:
        report.violation("missing", f"{samples} holds no sample")
    report.facts["samples"] = num_samples
    report.facts["versions"] = len(cache)


def positions_of(ends: dict[Lane, int]) -> dict[str, int]:
    """Positions as they are kept in a sample."""
    return {f"{lane.topic_id}/{lane.partition}": end for lane, end in ends.items()}


def lanes(ends: dict[str, Any]) -> dict[Lane, int]:
    """The reverse of `positions_of`."""
    found = {}
    for name, end in ends.items():
        topic_id, partition = name.rsplit("/", 1)
        found[Lane(topic_id, int(partition))] = int(end)
    return found
