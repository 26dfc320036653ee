"""The figures as tables, and the page that explains them."""

import os
import platform
import re
import statistics
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from cluster import RATE
from memory import ROOT

from . import flume, telegraf
from .crash import Found
from .runs import Figures

NAMES = {
    "howdah": "howdah",
    "memory": "Flume, memory channel",
    "file": "Flume, file channel",
    "spark": "Spark",
    "kcat": "kcat alone",
    "curl": "kcat, piped into curl",
    "telegraf": "Telegraf",
}
STAGES = {
    "collect": "collect: into Kafka",
    "archive": "archive: from Kafka to HDFS",
    "table": "table: from Kafka to a Delta table on HDFS",
    "load": "load: from Kafka to points of InfluxDB",
}

ABOUT = """\
# Compared with Flume, Spark and Telegraf

What howdah, Flume, Spark and Telegraf take for the same work, on the same Kafka, HDFS and InfluxDB.
`benches/run peers --write docs/compared.md` measures it and writes this page.

## What was measured

- **collect**: events into a topic of one partition, `acks=all`, snappy. howdah reads them from an HTTP server and keeps
  them in its spool; Flume reads a file by its `spooldir` source; kcat, a small program over librdkafka, reads the same file.
- **archive**: that topic into files of 128 MiB on HDFS. kcat alone reads and writes nowhere; piped into curl it writes
  one file by WebHDFS, and the DataNode does what the others do themselves.
- **table**: edits per minute and wiki of that topic in a Delta table, by the shipped pipeline and by a job of Structured
  Streaming with the same windows, keys and filter, `local[2]`, two shuffle partitions.
- **load**: a point with two tags and four fields of each event, in requests of 5,000, compressed. howdah's points have the
  bus's time, so that one that comes again is the same; Telegraf's have the time at which it read them.

The events are recorded ones, repeated with ids of their own and with the times of a stream of {rate} a second: Wikimedia has
some tens. The slower the stream, the more windows and hours there are to write for as many events.

There is one broker and one DataNode: a client sends a record once, however many copies the servers make of it.

CPU is user and system time of the process and of what it starts, from its start to its end; *without the start* leaves
out what it took until its first record was at the sink, for the tables until it began to read. Memory is the highest
resident set (VmHWM). Records a second are those from the first to the last at the sink; for the tables, and for kcat alone,
from when it began to read. With several rounds the figure is the median, and the range stands behind it.

## What is unfair

- To howdah: it collects over HTTP and syncs its spool to the disk, drops what it has collected already, and sends in
  transactions; Flume and kcat read a local file, and Flume's memory channel keeps nothing.
- To howdah: its table is there while it runs, is committed again and again, and has a file for each hour that changed.
  Spark writes once, at the end, with all of the topic as one batch, which is what costs it least; minutes that its
  watermark has not passed it does not write at all.
- To howdah and Flume: kcat and curl repeat nothing after a failure, and are no way to run an archive; they show what a bare
  client takes.
- To Flume and Spark: a JVM starts slowly and becomes faster as it runs, so a short run shows more of its start. Spark's
  job is in Python, whose process is counted with the JVM that does the work.
- To howdah: its points are the same when they are sent again. Telegraf's have the time at which they were read, so what it sends
  again after a failure is there twice.
- To all: the servers run on the same machine and take their share of it, so rates are lower than they could be. What a
  server does for a client is counted for nobody.

Flume has 1 GB of heap, {collector}, batches of {batch:,} events, and channels for {memory:,} events in memory and {file:,}
in files. Batches of {other:,} took more CPU.
"""

KILLED = """\
## After a kill -9

The process is killed when half of {number:,} records are at the sink, started again, and left to finish. *Lost* is what
was sent and cannot be read at the end; *repeated* is what can be read more than once.

{table}

Files of Flume that were open at the kill keep their name with `.tmp` for good. What stands only there is lost to readers
of the finished files, and is counted as lost; the last column says how much of it a person would find there. How much a
memory channel loses depends on how much it held.
"""


def command_says(*command: str) -> str:
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.stdout.strip()


def circumstances(binary: Path, servers: list[str], arguments: list[str], numbers: str) -> str:
    """Date, commit, machine, versions, command."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    java = re.search(r'version "([^"]+)"', command_says("java", "-version"))
    judge = (ROOT / "tests/judge/pom.xml").read_text()
    spark = re.search(r"pyspark==(\S+)", (ROOT / "tests/judge/requirements.txt").read_text())[1]
    delta = re.search(r"delta-spark_2.12</artifactId>\s*<version>([^<]+)", judge)[1]
    kcat = re.search(r"Version ([^\s,]+).*librdkafka ([\d.]+)", command_says("kcat", "-V"), re.DOTALL)
    versions = [command_says(str(binary), "--version"), *servers, f"Flume {flume.VERSION}"]
    versions += [f"Spark {spark} with Delta {delta}", f"Telegraf {telegraf.VERSION}"]
    versions += [f"kcat {kcat[1]} with librdkafka {kcat[2]}", f"Java {java[1]}"]
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, commit {command_says('git', 'rev-parse', '--short', 'HEAD')}, "
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB; {', '.join(versions)}. "
        f"{numbers} `{' '.join(['benches/run peers', *arguments])}`"
    )


def middle(values: list[float], digits: int = 0) -> str:
    """The median, and the range of several."""
    shown = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return shown
    return f"{shown} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def costs(runs: dict[tuple[str, str], list[Figures]]) -> str:
    lines = [
        "| | records a second | CPU s per million | without the start | peak memory, MB | first record after, s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    before = None
    for (stage, who), figures in runs.items():
        if stage != before:
            lines.append(f"| **{STAGES[stage]}** | | | | | |")
        before = stage
        row = [middle([one.rate for one in figures]), middle([one.cpu for one in figures], 1)]
        row += [middle([one.cpu_later for one in figures], 1), middle([one.peak for one in figures])]
        row += ["–" if figures[0].first is None else middle([one.first for one in figures], 1)]
        lines.append(f"| {NAMES[who]} | {' | '.join(row)} |")
    return "\n".join(lines)


def losses(killed: dict[tuple[str, str], list[Found]]) -> str:
    lines = ["| | | records at the end | lost | repeated | of the lost, in `.tmp` files |", "|---|---|--:|--:|--:|--:|"]
    for (stage, who), found in killed.items():
        row = [middle([getattr(one, name) for one in found]) for name in ("records", "lost", "repeated", "unfinished")]
        lines.append(f"| {stage} | {NAMES[who]} | {' | '.join(row)} |")
    return "\n".join(lines)


def page(about: str, runs: dict, killed: dict, number: int) -> str:
    sizes = {kind: flume.channel(kind, Path())["capacity"] for kind in ("memory", "file")}
    given = {"batch": flume.BATCH, "other": flume.WORSE, "collector": flume.COLLECTOR[1], "rate": RATE}
    parts = [ABOUT.format(**given, **sizes)]
    if runs:
        parts.append(f"## What it took\n\n{about}\n\n{costs(runs)}\n")
    if killed:
        parts.append(KILLED.format(number=number, table=losses(killed)))
    return "\n".join(parts)
