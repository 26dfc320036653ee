"""howdah beside Flume, Spark and Telegraf on real servers, started here: speed, CPU, memory, what a kill loses.

    benches/run peers [--events 2000000] [--rounds 1] [--parts collect,archive,table,load,kill]
        [--write docs/compared.md]

HOWDAH is the release binary, which `benches/run` builds and names. Prints the tables and the page that explains
them. The servers share the machine and are not counted. Needs 5 GB of disk in $TMPDIR for each million events.
Ends with exit code 1 if a run fails or has not stored every record; `--parts` measures some of it.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import ModuleType

BENCHES = Path(__file__).resolve().parents[1]
# The servers are those of the tests.
sys.path += [str(BENCHES), str(BENCHES.parent / "tests")]

from cluster import RATE, Servers  # noqa: E402
from memory import PER_COPY, make, say  # noqa: E402
from servers.processes import Failed  # noqa: E402

from . import crash, jars, page, runs, telegraf  # noqa: E402
from .launches import Bench, Input  # noqa: E402
from .sinks import Hdfs  # noqa: E402

WHO = {
    "collect": ["howdah", "memory", "file", "kcat"],
    "archive": ["howdah", "memory", "file", "curl", "kcat"],
    "table": ["howdah", "spark"],
    "load": ["howdah", "telegraf"],
}
KILLED = ["howdah", "file", "memory"]
ON_JVM = ("memory", "file", "spark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("howdah", type=Path)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--jvm-events", type=int, help="for Flume and Spark, if not as many")
    parser.add_argument("--kill-events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--parts", default="collect,archive,table,load,kill")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    asked = parser.parse_args()
    if unknown := set(asked.parts.split(",")) - {*WHO, "kill"}:
        parser.error(f"no part is called {', '.join(unknown)}: there are collect, archive, table, load and kill")
    jars.prepare()
    telegraf.fetch()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of all that cleans up
    number = f"{whole(asked.events):,} events"
    if asked.jvm_events:
        number += f", for Flume and Spark {whole(asked.jvm_events):,}"
    numbers = f"{number}; rounds: {asked.rounds}."
    try:
        kafka, hdfs, influx = Servers("kafka"), Servers("hdfs", "--datanodes", "1"), Servers("influx")
        with tempfile.TemporaryDirectory(prefix="howdah-peers-") as made, kafka, hdfs, influx:
            binary = asked.howdah.absolute()
            bench = Bench(binary, Path(made), kafka.about["brokers"], Hdfs(hdfs.about), influx.about)
            servers = [kafka.about["server"], hdfs.about["server"], influx.about["server"]]
            # Before the runs: the commit is that of the binary.
            about = page.circumstances(bench.binary, servers, sys.argv[2:], numbers)
            costs, losses = Comparison(bench, kafka, asked).run()
    except Failed as failed:
        sys.exit(str(failed))
    shown = page.page(about, costs, losses, whole(asked.kill_events))
    say(shown)
    if asked.write:
        asked.write.write_text(shown)


def whole(number: int) -> int:
    """As many events as whole copies of the recorded ones have."""
    return -(-number // PER_COPY) * PER_COPY


class Comparison:
    """All runs, in turn, and what they gave."""

    def __init__(self, bench: Bench, kafka: Servers, asked: argparse.Namespace) -> None:
        self._bench, self._kafka, self._asked = bench, kafka, asked
        self._filled = set()

    def run(self) -> tuple[dict, dict]:
        costs, losses, parts = {}, {}, self._asked.parts.split(",")
        stages = [stage for stage in WHO if stage in parts]
        if stages:
            events = self._given("events", self._asked.events)
            many = self._given("many", self._asked.jvm_events) if self._asked.jvm_events else events
        self._warm()
        few = self._given("few", self._asked.kill_events) if "kill" in parts else None
        for number in range(1, self._asked.rounds + 1):
            for stage in stages:
                for who in WHO[stage]:
                    given = many if who in ON_JVM else events
                    costs.setdefault((stage, who), []).append(self._one(runs, stage, who, given, number))
            for stage in crash.STAGES if few else ():
                for who in KILLED:
                    losses.setdefault((stage, who), []).append(self._one(crash, stage, who, few, number))
        return costs, losses

    def _warm(self) -> None:
        """Servers that nobody has used yet would be paid for by whoever comes first."""
        warm = self._given("warm", PER_COPY)
        self._fill(warm)
        runs.archive(self._bench, "howdah", warm, "warm_archive")

    def _given(self, name: str, number: int) -> Input:
        folder = self._bench.folder / name
        folder.mkdir()
        return Input(make(folder, number, RATE), whole(number), f"{name}_topic")

    def _one(self, kind: ModuleType, stage: str, who: str, given: Input, number: int):
        """One run; then what it needed alone is deleted."""
        name = f"{stage}_{who}_{kind.__name__.rpartition('.')[2]}_{number}"
        if stage != "collect":
            self._fill(given)
        result = kind.STAGES[stage](self._bench, who, given, name)
        say(f"round {number}, {stage}, {page.NAMES[who]}: {result}")
        if stage == "collect":
            self._forget(name)
        shutil.rmtree(self._bench.folder / name, ignore_errors=True)
        return result

    def _fill(self, given: Input) -> None:
        """The topic that all read from is howdah's."""
        if given.topic not in self._filled:
            runs.collect(self._bench, "howdah", given, given.topic)
            self._filled.add(given.topic)

    def _forget(self, topic: str) -> None:
        said = self._kafka.order("tool", name="topics", arguments=["--delete", "--topic", topic])
        if said["code"] != 0:
            raise Failed(f"topic {topic} could not be deleted: {said}")


if __name__ == "__main__":
    main()
