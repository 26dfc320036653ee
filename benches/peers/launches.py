"""The commands that are measured: whoever does a stage, with its own files in a folder of its own."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join

from cluster import NOBODY, stages
from influx import LOADER
from memory import serve

from . import flume, spark, telegraf
from .sinks import Hdfs, Topic


@dataclass(frozen=True)
class Input:
    """The events, and the topic that holds them."""

    events: Path
    number: int
    topic: str


@dataclass(frozen=True)
class Bench:
    """What all have in common."""

    binary: Path
    folder: Path
    brokers: str
    hdfs: Hdfs
    influx: dict


@dataclass(frozen=True)
class Launch:
    command: list
    environment: dict = field(default_factory=dict)


def howdah(bench: Bench, name: str, stage: str, topic: str, url: str = NOBODY) -> Launch:
    """A stage of the shipped pipeline, with its topic, its folder on HDFS and itself renamed."""
    folder = bench.folder / name
    folder.mkdir(exist_ok=True)
    if stage == "load":
        pipeline = folder / "load.toml"
        head = stages(folder)["collect"].read_text().split("# Events are on disk before they count.")[0]
        loader = LOADER.format(name="points", topic="wiki_changes", measurement=name, **bench.influx)
        pipeline.write_text(head + loader)
    else:
        pipeline = stages(folder)[stage]
    text = pipeline.read_text().replace('name = "wikimedia"', f'name = "{name}"')
    pipeline.write_text(text.replace("wiki_changes", topic).replace("/user/bigdata", f"/{name}"))
    environment = {
        "HOWDAH_DATA": folder / "data",
        "HOWDAH_LISTEN": "off",
        "HOWDAH_CONTACT": "bench@example.org",
        "KAFKA_BROKERS": bench.brokers,
        "HDFS_URL": bench.hdfs.url,
        "HADOOP_CONF_DIR": bench.hdfs.conf,
        "WIKIMEDIA_URL": url,
    }
    return Launch([bench.binary, "run", pipeline], environment)


def collecting(bench: Bench, who: str, given: Input, topic: str, name: str, around: ExitStack) -> Launch:
    """From the events' file, or a server of it that is ended with `around`, to a topic."""
    if who == "howdah":
        server, url = serve(bench.binary, given.events, 0)
        around.enter_context(server)
        return howdah(bench, name, "collect", topic, url)
    if who == "kcat":
        kcat = ["kcat", "-P", "-b", bench.brokers, "-t", topic, "-l", given.events, "-z", "snappy"]
        return Launch([*kcat, "-X", "acks=all", "-X", "linger.ms=100", "-X", "batch.num.messages=10000"])
    folder = bench.folder / name
    spool = folder / "spool"
    spool.mkdir(parents=True)
    os.link(given.events, spool / "events.ndjson")  # is renamed when it is read
    return Launch(flume.agent(folder, who, flume.collect(bench.brokers, spool, topic), bench.hdfs.conf))


def archiving(bench: Bench, who: str, given: Input, name: str) -> Launch:
    """From the topic to files below `/<name>` on HDFS."""
    if who == "howdah":
        return howdah(bench, name, "archive", given.topic)
    reading = join(Topic(bench.brokers, given.topic).reading("%s\n"))
    if who == "kcat":
        return Launch(["sh", "-c", f"exec {reading} >/dev/null"])
    if who == "curl":
        place = bench.hdfs.place(f"/{name}/events.jsonl")
        return Launch(["sh", "-c", f"{reading} | {join(['curl', '-sS', '-f', '-T', '-', '-H', 'Expect:', place])}"])
    ends = flume.archive(bench.brokers, given.topic, f"{bench.hdfs.url}/{name}")
    return Launch(flume.agent(bench.folder / name, who, ends, bench.hdfs.conf))


def counting(bench: Bench, who: str, given: Input, name: str) -> Launch:
    """From the topic to a table below `/<name>` on HDFS."""
    if who == "howdah":
        return howdah(bench, name, "table", given.topic)
    command = spark.job(bench.brokers, given.topic, f"{bench.hdfs.url}/{name}/table", f"{bench.hdfs.url}/{name}/state")
    return Launch(command, {"HADOOP_CONF_DIR": bench.hdfs.conf, "SPARK_LOCAL_IP": "127.0.0.1"})


def loading(bench: Bench, who: str, given: Input, name: str) -> Launch:
    """From the topic to points of that name in InfluxDB."""
    if who == "howdah":
        return howdah(bench, name, "load", given.topic)
    return Launch(telegraf.agent(bench.folder / name, bench.brokers, given.topic, name, bench.influx))
