"""Judges what a finished run of howdah left behind. It shares no code with howdah.

    judge.py archive   --events FILE --archive DIR --topic T --partitions N --key /wiki
    judge.py table     --events FILE --table DIR
    judge.py snapshots --events FILE --archive DIR --table DIR --samples FILE

The first proves that the archive holds every served event once, byte for byte, in order and in
its partition; the second that the live table says what the events say; the third that what
readers saw midway (see readers.py) was the truth of that moment. Exit code 0: holds; 1: violated,
with the first 20 violations, each with its name; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from archive import Archive
from archive_check import Lines, check_archive
from deltalog import Log
from events import Served
from expected import Positions, Rules, of_events
from report import Report
from rows import check_sums
from snapshots import check_snapshots


def archive(args: argparse.Namespace) -> int:
    report = Report()
    served = Served(args.events, args.partitions, args.key, args.distinct)
    lines = Lines(served, args.order == "topic", report)
    check_archive(Archive(args.archive, report), args.topic, args.partitions, lines, args.allow_prefix)
    for path in sorted(args.letters.rglob("*")) if args.letters else ():
        if path.is_file():
            lines.letter(path.read_bytes())
    lines.finish(args.allow_prefix)
    return report.conclude("archive")


def table(args: argparse.Namespace) -> int:
    from table_check import check_table  # here, so that `archive` needs Python alone

    report = Report()
    log = Log(args.table, report, args.log)
    if not log.commits:
        return report.conclude("table")
    rows = check_table(log, report, args.strict, args.ended)
    if args.at_positions:
        positions = Positions(Archive(args.at_positions, report), args.events, rules(args))
        expected = positions.counts(log.newest.next(), log)
        positions.check_watermarks(log)
    else:
        expected = of_events(args.events, rules(args))
    check_sums(rows, expected, args.window, report)
    report.facts["edits"] = expected.total()
    return report.conclude("table")


def snapshots(args: argparse.Namespace) -> int:
    report = Report()
    positions = Positions(Archive(args.archive, report), args.events, rules(args))
    check_snapshots(args.samples, positions, Log(args.table, report, args.log), args.window, report)
    return report.conclude("snapshots")


def rules(args: argparse.Namespace) -> Rules:
    return Rules(args.window, args.lateness, args.delay, time.time() + args.future)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)

    def command(judge: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(judge.__name__, help=text, description=text)
        sub.set_defaults(judge=judge)
        sub.add_argument("--events", type=existing, required=True, help="the served events, NDJSON, plain or .gz")
        return sub

    sub = command(archive, "every served event is in the archive once, in order")
    sub.add_argument("--archive", type=existing, required=True, help="the archive's folder")
    sub.add_argument("--topic", required=True)
    sub.add_argument("--partitions", type=int, required=True)
    sub.add_argument("--key", type=pointer, required=True, help="pointer to the key, or none: one partition")
    sub.add_argument("--order", choices=["topic", "none"], default="topic", help="as served, per source topic")
    sub.add_argument("--allow-prefix", action="store_true", help="the run was stopped midway: the rest may be missing")
    sub.add_argument("--distinct", type=pointer, help="pointer to an id: of events with one id only the first counts")
    sub.add_argument("--letters", type=existing, help="folder of payloads kept as dead letters: not lost")

    sub = command(table, "the live table says what the events say")
    sub.add_argument("--table", type=existing, required=True, help="the table's folder")
    sub.add_argument("--at-positions", type=existing, metavar="ARCHIVE", help="only what is in the table so far")
    sub.add_argument("--strict", action="store_true", help="files that no commit names are left over")
    sub.add_argument("--ended", action="store_true", help="after an ordered end: every final hour is in its file")
    counting(sub)

    sub = command(snapshots, "what readers saw midway was the truth of that moment")
    sub.add_argument("--archive", type=existing, required=True, help="the archive's folder, after the run")
    sub.add_argument("--table", type=existing, required=True, help="the table's folder, for its log")
    sub.add_argument("--samples", type=existing, required=True, help="the file that readers.py wrote")
    counting(sub)
    return top


def counting(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--log", type=existing, help="a folder with the commits that are deleted from the table's log")
    sub.add_argument("--window", type=int, default=60, help="seconds")
    sub.add_argument("--lateness", type=int, default=600, help="seconds; used where positions are known")
    sub.add_argument("--delay", type=int, default=10, help="seconds, of the watermark; used where positions are known")
    sub.add_argument("--future", type=int, default=86_400, help="seconds from now, beyond which nothing is counted")


def existing(text: str) -> Path:
    if not (path := Path(text)).exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist")
    return path


def pointer(text: str) -> str | None:
    if text == "none":
        return None
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a JSON pointer nor none")
    return text


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)  # wrong usage exits with 2
    return args.judge(args)


if __name__ == "__main__":
    sys.exit(main())
