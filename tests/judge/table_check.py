"""Judges the live table: three readers agree and the log holds together."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

import readings
from deltalog import Log, State
from report import Report
from rows import COLUMNS, MICROS, Row, show

TYPES = dict(zip(COLUMNS, ("timestamp", "timestamp", "string", "long", "string"), strict=True))


def check_table(log: Log, report: Report, strict: bool, ended: bool) -> list[Row]:
    """Judges the newest state but for its counts, and answers with its rows."""
    state = log.newest
    check_schema(state, report)
    files, complaints = readings.by_hand(log.table, state)
    for complaint in complaints:
        report.violation("missing" if "No such file" in complaint else "altered", complaint)
    rows = sorted(row for found in files.values() for row in found)
    for reader, found in other_readings(log.table, state.version, report):
        if found != rows:
            only, absent = Counter(found) - Counter(rows), Counter(rows) - Counter(found)
            example = next(iter(only + absent), None)
            report.violation(
                "disagree", f"{reader} has {only.total()} other rows and lacks {absent.total()}, such as {example}"
            )
    for path, found in files.items():
        check_rows(path, found, state, report)
    check_plain(log.table, state, files, report)
    if strict:
        check_left_overs(log, report)
    if ended:
        check_final(state, report)
    report.facts |= {"version": state.version, "live files": len(state.live), "rows": len(rows)}
    return rows


def other_readings(table: Path, version: int, report: Report) -> list[tuple[str, list[Row]]]:
    found = []
    try:
        newest, rows = readings.by_deltalake(table)
        found.append(("deltalake", rows))
        if newest != version:
            report.violation("disagree", f"deltalake reads version {newest}, the log ends at {version}")
    except Exception as why:  # whatever a reader says, it is the verdict
        report.violation("failed", f"deltalake: {why}")
    try:
        found.append(("duckdb", readings.by_duckdb(readings.duckdb_connection(), table)))
    except Exception as why:
        report.violation("failed", f"duckdb: {why}")
    return found


def check_plain(table: Path, state: State, files: dict[str, list[Row]], report: Report) -> None:
    """Plain readers see each final hour once, and nothing else."""
    expected = sorted(row for path, rows in files.items() if path.startswith("dt=") for row in rows)
    for row in expected:
        if state.final is None or row.start >= state.final * 1000:
            report.violation("not_final", f"plain readers see {row}, final is {state.final}")
            break
    read = {
        "pyarrow": lambda: readings.plain_by_pyarrow(table),
        "duckdb": lambda: readings.plain_by_duckdb(readings.duckdb_connection(), table),
    }
    for reader, rows in read.items():
        try:
            found = rows()
        except Exception as why:  # whatever a reader says, it is the verdict
            report.violation("failed", f"{reader}, plain: {why}")
            continue
        if found != expected:
            only, absent = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
            example = next(iter(only + absent), None)
            report.violation(
                "disagree", f"{reader} sees {only.total()} other plain rows, lacks {absent.total()}, such as {example}"
            )
    report.facts["plain rows"] = len(expected)


def check_final(state: State, report: Report) -> None:
    """After an ordered end every final hour is in its file."""
    for path, add in state.live.items():
        hour = (add.get("tags") or {}).get("howdah.hour")
        if path.startswith("_live/") and hour and state.final is not None and micros(hour) < state.final * 1000:
            report.violation("not_swapped", f"{path} is live, and {hour} is final")


def check_schema(state: State, report: Report) -> None:
    versions = (state.protocol.get("minReaderVersion"), state.protocol.get("minWriterVersion"))
    if versions != (1, 2):
        report.violation("bad_schema", f"the protocol is {versions}, not reader 1 and writer 2")
    schema = json.loads(state.metadata.get("schemaString", "{}"))
    columns = {column["name"]: column["type"] for column in schema.get("fields", [])}
    if columns != TYPES:
        report.violation("bad_schema", f"the columns are {columns}")
    if state.metadata.get("partitionColumns") != ["dt"]:
        report.violation("bad_schema", f"the partition columns are {state.metadata.get('partitionColumns')}")


def check_rows(path: str, rows: list[Row], state: State, report: Report) -> None:
    """What a file's rows owe each other and the file's place in the table."""
    keys = Counter((row.start, row.wiki) for row in rows)
    for (start, wiki), times in keys.items():
        if times > 1:
            report.violation("repeated", f"{path}: {show((start // MICROS, wiki))} stands {times} times in one file")
    stats = json.loads(state.live[path].get("stats") or "{}")
    if stats.get("numRecords", len(rows)) != len(rows):
        report.violation("wrong_count", f"{path} has {len(rows)} rows, the log says {stats['numRecords']}")
    for bound, pick in (("minValues", min), ("maxValues", max)):
        told = stats.get(bound, {}).get("window_start")
        if rows and told and micros(told) != (found := pick(row.start for row in rows)):
            # Readers skip a file by these, so that a wrong one hides its rows.
            report.violation("bad_log", f"{path}: {bound} of window_start is {told}, in truth {found} us")


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * MICROS)


def check_left_overs(log: Log, report: Report) -> None:
    named = log.newest.live.keys() | log.newest.removed
    for path in sorted(log.table.rglob("*.parquet")):
        name = path.relative_to(log.table).as_posix()
        if name not in named and not name.startswith("_delta_log/"):
            report.violation("left_over", f"{name} is in no commit")
