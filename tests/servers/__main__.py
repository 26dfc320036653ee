"""`python3 -m servers kafka|hdfs|influx|opensearch …` runs a cluster; `python3 -m servers prepare` fetches and warms up.

A cluster's first line of output describes it: `{"server": "Apache Kafka 4.1.1", "brokers": "…"}`. Then it
takes a command a line, and answers each with `{"ok": …}` or `{"failed": "why"}`:

    {"do": "kill", "which": "1"}     also stop, start, pause, resume
    {"do": "settle"}                 HDFS: waits until the cluster is whole, as far as it runs
    {"do": "tool", "name": "fs", "arguments": ["-cat", "/x"], "input": ""}
                                     one of the servers' own tools; ok is {"code", "output", "errors"};
                                     of HDFS: also `"user": "intruder"`, where it is not the usual one
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .guarded import GuardedHdfs
from .hdfs import Hdfs
from .hdfs import VERSION as HADOOP
from .influx import VERSION as INFLUX
from .influx import Influx
from .kafka import VERSION as KAFKA
from .kafka import Kafka
from .kerberos import DAY
from .opensearch import VERSION as OPENSEARCH
from .opensearch import OpenSearch
from .processes import Failed, die_with_parent
from .zookeeper import OldKafka

# A console tool that has not ended by then hangs.
TOOL_SECONDS = 120


def obey(cluster, order):
    """Does one command and returns what there is to say."""
    do = order["do"]
    if do in ("kill", "stop", "start", "pause", "resume"):
        if order["which"] not in cluster.daemons:
            raise Failed(f"no server {order['which']!r}, there are: {', '.join(cluster.daemons)}")
        return getattr(cluster.daemons[order["which"]], do)()
    if do == "settle":
        return cluster.settle()
    if do == "tool":
        who = {"user": order["user"]} if "user" in order else {}
        command = cluster.tool(order["name"], order["arguments"], **who)
        result = subprocess.run(
            command,
            input=order.get("input", ""),
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            preexec_fn=die_with_parent,
        )
        return {"code": result.returncode, "output": result.stdout, "errors": result.stderr}
    raise Failed(f"unknown command {do!r}")


def say(what):
    print(json.dumps(what), flush=True)


def serve(make):
    """Runs a cluster until the input ends."""
    folder = Path(tempfile.mkdtemp(prefix="howdah-servers-"))
    cluster = None
    try:
        cluster = make(folder)
        cluster.start()
        say(cluster.describe())
        for line in sys.stdin:
            try:
                say({"ok": obey(cluster, json.loads(line))})
            except (Failed, KeyError, ValueError, subprocess.TimeoutExpired) as failed:
                say({"failed": f"{type(failed).__name__}: {failed}"})
    except Failed as failed:
        say({"failed": str(failed)})
        return 1
    finally:
        for daemon in cluster.daemons.values() if cluster else ():
            daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def prepare():
    """Fetches the jars, and runs each kind of server once to archive the classes it loads."""
    kinds = (("kafka", KAFKA, Kafka, {"brokers": 1}), ("hadoop", HADOOP, Hdfs, {"datanodes": 1}))
    for name, version, make, sizes in (*kinds, ("opensearch", OPENSEARCH, OpenSearch, {})):
        folder = Path(tempfile.mkdtemp(prefix="howdah-servers-"))
        try:
            cluster = make(folder, version=version, archiving=True, **sizes)
            if all(cluster.jars.archive(kind).exists() for kind in cluster.kinds):
                continue
            cluster.start()
            touch(cluster)
            for daemon in cluster.daemons.values():
                daemon.stop()
            cluster.jars.keep_archives(cluster.kinds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{name} {version}: jars and class archives in {cluster.jars.folder}")
    with tempfile.TemporaryDirectory(prefix="howdah-servers-") as folder:
        print(f"influxdb {INFLUX}: {Influx(Path(folder)).program}")


def touch(cluster):
    """Has a cluster do what every test has it do, so that its classes are loaded."""
    if isinstance(cluster, OpenSearch):
        return
    if isinstance(cluster, Kafka):
        steps = [("topics", ["--create", "--topic", "warm"], ""), ("producer", ["--topic", "warm"], "x\n")]
        steps += [("consumer", ["--topic", "warm", "--from-beginning", "--max-messages", "1"], "")]
    else:
        steps = [("fs", ["-put", "-", "/warm"], "x\n"), ("fs", ["-cat", "/warm"], ""), ("fs", ["-ls", "/"], "")]
    for name, arguments, text in steps:
        result = obey(cluster, {"do": "tool", "name": name, "arguments": arguments, "input": text})
        if result["code"] != 0:
            raise Failed(f"{name} {arguments}:\n{result['output']}{result['errors']}")


def main():
    parser = argparse.ArgumentParser(prog="servers", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("prepare", help="fetch the jars and make later starts fast")
    kafka = kinds.add_parser("kafka", help="a Kafka cluster")
    kafka.add_argument("--brokers", type=int, default=1)
    kafka.add_argument("--version", default=KAFKA)
    kafka.add_argument("--secure", action="store_true", help="listeners for TLS and for users too")
    kafka.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    hdfs = kinds.add_parser("hdfs", help="an HDFS cluster")
    hdfs.add_argument("--datanodes", type=int, default=3)
    hdfs.add_argument("--ha", action="store_true", help="two NameNodes and three JournalNodes")
    hdfs.add_argument("--kerberos", action="store_true", help="guarded, with a server \"kdc\"")
    hdfs.add_argument("--ticket-life", type=int, default=DAY, metavar="SECONDS", help="of the usual user, guarded")
    hdfs.add_argument("--version", default=HADOOP)
    hdfs.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    influx = kinds.add_parser("influx", help="an InfluxDB server")
    influx.add_argument("--version", default=INFLUX)
    opensearch = kinds.add_parser("opensearch", help="an OpenSearch node")
    opensearch.add_argument("--version", default=OPENSEARCH)
    opensearch.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    if asked.kind == "prepare":
        return prepare()
    if asked.kind == "kafka":
        kind = OldKafka if asked.version.startswith("2.") else Kafka
        sizes = {"settings": asked.set, "secure": asked.secure}
        return serve(lambda folder: kind(folder, asked.brokers, asked.version, **sizes))
    if asked.kind == "influx":
        return serve(lambda folder: Influx(folder, asked.version))
    if asked.kind == "opensearch":
        return serve(lambda folder: OpenSearch(folder, asked.version, settings=asked.set))
    kind, more = (GuardedHdfs, {"ticket_life": asked.ticket_life}) if asked.kerberos else (Hdfs, {})
    return serve(lambda folder: kind(folder, asked.datanodes, asked.ha, asked.version, settings=asked.set, **more))


if __name__ == "__main__":
    sys.exit(main())
