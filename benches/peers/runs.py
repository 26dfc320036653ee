"""One run of one stage, from its start to the last record at the sink, and what it took."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from influx import Points
from servers.processes import Failed

from .launches import Bench, Input, Launch, archiving, collecting, counting, howdah, loading
from .measured import Measured
from .sinks import Blocks, Topic, is_finished
from .table import Log

LOOK_EVERY = 0.1
# Where the table is, below a run's folder.
TABLES = {"howdah": "aggregates/wiki_edits_minute", "spark": "table"}
# At the sink nothing has come for so many seconds: what is complete already is the end.
QUIET = 3


@dataclass(frozen=True)
class Figures:
    """Rates a second; CPU seconds for a million records; megabytes; seconds until the first record was there."""

    rate: float
    cpu: float
    cpu_later: float
    peak: float
    first: float | None


def figures(process: Measured, number: int, first: float | None, last: float, since: float) -> Figures:
    """Of a run that has ended; `since` is when its start was over, from where the rate is taken."""
    cpu, later = process.cpu, process.cpu - process.cpu_at(since)
    millions = number / 1e6
    took = first - process.begun if first else None
    rate = number / max(last - since, LOOK_EVERY)  # what came at once is not known better
    return Figures(rate, cpu / millions, later / millions, process.peak_mb(), took)


def limit(number: int) -> float:
    """Seconds after which a run has failed: far more than the slowest takes."""
    return 180 + number / 2_000


def follow(process: Measured, progress: Callable[[], int], whole: int, seconds: float) -> tuple[float, float]:
    """Waits until `whole` has arrived and no more comes; when the first and the last was there."""
    first = last = None
    seen = 0
    while True:
        running, now, arrived = process.sample(), time.monotonic(), progress()
        if arrived > seen:
            first, last, seen = first or now, now, arrived
        if seen >= whole and (not running or now - last > QUIET):
            return first, last
        if not running or now > process.begun + seconds:
            why = f"took longer than {seconds:.0f} s" if running else f"ended with {process.child.returncode}"
            raise Failed(f"{process.name} {why}, with {seen:,} of {whole:,} at the sink:\n{process.tail()}")
        time.sleep(LOOK_EVERY)


def start(bench: Bench, name: str, launch: Launch) -> Measured:
    return Measured(launch.command, bench.folder / f"{name}.log", **launch.environment)


def make_topic(bench: Bench, name: str) -> Topic:
    """Has howdah make it, with the settings of the shipped pipeline."""
    launch = howdah(bench, name, "collect", name)
    command = [bench.binary, "topics", "create", launch.command[-1]]
    environment = {key: str(value) for key, value in launch.environment.items()}
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failed(f"no topic {name}:\n{result.stdout}{result.stderr}")
    return Topic(bench.brokers, name)


def collect(bench: Bench, who: str, given: Input, name: str) -> Figures:
    """Into the topic of that name."""
    with ExitStack() as around:
        topic = make_topic(bench, name)
        process = around.enter_context(start(bench, name, collecting(bench, who, given, name, name, around)))
        first, last = follow(process, topic.end, given.number, limit(given.number))
        process.end()
    if (records := topic.count()) != given.number:
        raise Failed(f"{who} collected {records:,} of {given.number:,} records")
    return figures(process, given.number, first, last, first)


def archive(bench: Bench, who: str, given: Input, name: str) -> Figures:
    size = given.events.stat().st_size
    launch = archiving(bench, who, given, name)
    if who == "kcat":
        return read(bench, launch, given, name)
    blocks = Blocks(bench.hdfs)
    # The rest of a packet may wait for the end.
    almost = size - (1 << 20)
    with start(bench, name, launch) as process:
        first, last = follow(process, blocks.written, almost, limit(given.number))
        process.end()
    files = bench.hdfs.files(f"/{name}")
    stored = sum(length for path, length in files.items() if is_finished(path))
    if stored != size:
        raise Failed(f"{who} archived {stored:,} of {size:,} bytes in {list(files)}:\n{process.tail()}")
    bench.hdfs.delete(f"/{name}")
    return figures(process, given.number, first, last, first)


def read(bench: Bench, launch: Launch, given: Input, name: str) -> Figures:
    """By a client that puts the records nowhere."""
    with start(bench, name, launch) as process:
        while process.sample():
            time.sleep(LOOK_EVERY)
        process.end()
    return figures(process, given.number, None, time.monotonic(), process.begun)


def table(bench: Bench, who: str, given: Input, name: str) -> Figures:
    """Its rate is from when it began to read, since Spark's first rows are also its last."""
    end, launch = Topic(bench.brokers, given.topic).end(), counting(bench, who, given, name)
    # The last thing in the topic is the mark of a transaction's end.
    end -= 1
    log = Log(bench.hdfs, f"/{name}/{TABLES[who]}")
    with start(bench, name, launch) as process:
        if who == "spark":
            since = spark_started(process, given)
        else:
            follow(process, log.position, end, limit(given.number))
            process.end()
            since = process.begun
    first, last = log.times()
    figured = figures(process, given.number, first, last, since)
    bench.hdfs.delete(f"/{name}")
    return figured


def spark_started(process: Measured, given: Input) -> float:
    while process.sample():
        if time.monotonic() > process.begun + limit(given.number):
            raise Failed(f"Spark is not done in {limit(given.number):.0f} s:\n{process.tail()}")
        time.sleep(LOOK_EVERY)
    process.end()
    said = json.loads(process.tail().splitlines()[-1])
    if said["records"] != given.number:
        raise Failed(f"Spark read {said['records']:,} of {given.number:,} records")
    return said["started"]


def load(bench: Bench, who: str, given: Input, name: str) -> Figures:
    points = Points(bench.influx)
    before = points.written()
    with start(bench, name, loading(bench, who, given, name)) as process:
        first, last = follow(process, lambda: points.written() - before, given.number, limit(given.number))
        process.end()
    if (found := points.count(name)) != given.number:
        raise Failed(f"{who} loaded {found:,} of {given.number:,} points:\n{process.tail()}")
    points.drop(name)
    return figures(process, given.number, first, last, first)


STAGES = {"collect": collect, "archive": archive, "table": table, "load": load}
