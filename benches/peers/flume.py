"""Flume's agents, as its manual has them, with the settings that made them cheapest here."""

from pathlib import Path

from servers.java import hosts_file, java, properties

from . import jars

VERSION = "1.11.0"

LOGGING = {
    "rootLogger.level": "WARN",
    "rootLogger.appenderRef.c.ref": "C",
    "appender.c.type": "Console",
    "appender.c.name": "C",
    "appender.c.layout.type": "PatternLayout",
    "appender.c.layout.pattern": "%d %p %c{1}: %m%n",
}

# Events in a batch of source and sink. With 1,000 the same work took a tenth to a quarter more CPU.
BATCH, WORSE = 10_000, 1_000

# The option of the JVM's garbage collector, and its name.
COLLECTOR = ("-XX:+UseParallelGC", "the parallel collector")


def channel(kind: str, folder: Path) -> dict:
    """Room for what a source is ahead of its sink, in 1 GB of heap."""
    values = {"type": kind, "capacity": 100_000, "transactionCapacity": BATCH}
    if kind == "file":
        values |= {"capacity": 1_000_000, "checkpointDir": folder / "checkpoint", "dataDirs": folder / "channel"}
    return values


def collect(brokers: str, spool: Path, topic: str) -> tuple[dict, dict]:
    source = {
        "type": "spooldir",
        "spoolDir": spool,
        "batchSize": BATCH,
        "deserializer.maxLineLength": 1 << 20,
    }
    sink = {
        "type": "org.apache.flume.sink.kafka.KafkaSink",
        "kafka.bootstrap.servers": brokers,
        "kafka.topic": topic,
        "flumeBatchSize": BATCH,
        "kafka.producer.acks": "all",
        "kafka.producer.compression.type": "snappy",
        "kafka.producer.linger.ms": 100,
        "kafka.producer.batch.size": 1 << 20,
    }
    return source, sink


def archive(brokers: str, topic: str, folder: str) -> tuple[dict, dict]:
    source = {
        "type": "org.apache.flume.source.kafka.KafkaSource",
        "kafka.bootstrap.servers": brokers,
        "kafka.topics": topic,
        "kafka.consumer.group.id": f"flume{folder.replace('/', '-')}",
        "kafka.consumer.auto.offset.reset": "earliest",
        "kafka.consumer.isolation.level": "read_committed",
        "kafka.consumer.max.poll.records": BATCH,
        "kafka.consumer.max.partition.fetch.bytes": 8 << 20,
        "batchSize": BATCH,
    }
    sink = {
        "type": "hdfs",
        "hdfs.path": folder,
        "hdfs.fileType": "DataStream",
        "hdfs.writeFormat": "Text",
        "hdfs.rollSize": 128 << 20,
        "hdfs.rollInterval": 600,
        "hdfs.rollCount": 0,
        "hdfs.batchSize": BATCH,
        # Else a block that has not all its copies yet makes it begin a new file.
        "hdfs.minBlockReplicas": 1,
    }
    return source, sink


def agent(folder: Path, kind: str, ends: tuple[dict, dict], conf: Path) -> list:
    """The command of an agent with its files in a folder; `conf` is that of the HDFS cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = {"a.sources": "r", "a.channels": "c", "a.sinks": "k"}
    parts = {"sources.r": ends[0] | {"channels": "c"}, "sinks.k": ends[1] | {"channel": "c"}}
    for part, values in (parts | {"channels.c": channel(kind, folder)}).items():
        lines |= {f"a.{part}.{key}": value for key, value in values.items()}
    properties(folder / "agent.properties", lines)
    properties(folder / "log4j2.properties", LOGGING)
    hosts = hosts_file(folder / "hosts", [])
    path = f"{folder}:{jars.fetch('flume')}/*:{conf}"
    return [
        java(), "-Xmx1g", COLLECTOR[0], "-Djava.net.preferIPv4Stack=true", f"-Djdk.net.hosts.file={hosts}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", path,
        "org.apache.flume.node.Application", "--no-reload-conf", "-n", "a", "-f", folder / "agent.properties",
    ]  # fmt: skip
