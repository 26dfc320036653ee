"""A folder that a real Flume agent was reading, taken over in the middle of a file: no line is lost, none is twice.

    takeover.py HOWDAH

HOWDAH is the binary. A Flume agent with a spooling-directory source reads a folder into its file channel until it is
killed, once by SIGKILL and once by SIGTERM; another agent empties the channel into a file; `pipelines/from-folder.toml`
archives the rest of the folder. Both together have to be all lines in their order. An agent that is killed may have put
its last batch into the channel without having noted it, and would repeat it itself: so much may be twice then.
Flume comes from Maven.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "benches"), str(ROOT / "tests")]

from peers import flume, jars  # noqa: E402
from servers.java import java, properties  # noqa: E402
from servers.processes import die_with_parent  # noqa: E402

LINES = 2_000_000
LIMIT = 120
BATCH = 100
LOOK = 0.05
# What Flume notes of the file that it reads.
TRACKER = ".flumespool/.flumespool-main.meta"


def awaited(what: str, is_so, *processes: subprocess.Popen) -> None:
    begun = time.monotonic()
    while not is_so():
        dead = [process.args for process in processes if process.poll() is not None]
        if dead or time.monotonic() > begun + LIMIT:
            sys.exit(f"{what}: waited in vain; ended: {dead}")
        time.sleep(LOOK)


def agent(folder: Path, settings: dict) -> subprocess.Popen:
    folder.mkdir()
    properties(folder / "agent.properties", {f"a.{key}": value for key, value in settings.items()})
    properties(folder / "log4j2.properties", flume.LOGGING)
    command = [
        java(), "-Xmx1g", f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp", f"{folder}:{jars.fetch('flume')}/*", "org.apache.flume.node.Application",
        "--no-reload-conf", "-n", "a", "-f", folder / "agent.properties",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([*map(str, command)], stdout=log, stderr=log, preexec_fn=die_with_parent)


def fill(incoming: Path) -> list[str]:
    """Files, the oldest first; answers with all their lines."""
    files = {
        "early.log": [f"early {n}" for n in range(1_000)],
        "big.log": [f"line {n:08} {'x' * 60}" for n in range(LINES)],
        "late.log": ["late 1", "late 2"],
    }
    for second, (name, lines) in enumerate(files.items()):
        (incoming / name).write_text("".join(f"{line}\n" for line in lines))
        os.utime(incoming / name, (second, second))
    return [line for lines in files.values() for line in lines]


def taken_by_flume(folder: Path, incoming: Path, how: signal.Signals) -> list[str]:
    channel = {
        "channels": "c",
        "channels.c.type": "file",
        "channels.c.capacity": 10_000_000,
        "channels.c.checkpointDir": folder / "checkpoint",
        "channels.c.dataDirs": folder / "channel",
    }
    source = {"sources": "r", "sources.r.type": "spooldir", "sources.r.spoolDir": incoming, "sources.r.channels": "c"}
    source["sources.r.batchSize"] = BATCH
    reading = agent(folder / "reading", channel | source)
    tracker = incoming / TRACKER
    # A few hundred batches within the large file.
    awaited("Flume in the large file", lambda: tracker.exists() and tracker.stat().st_size > 8_000, reading)
    reading.send_signal(how)
    reading.wait()
    out = folder / "out"
    out.mkdir()
    sink = {
        "sinks": "k",
        "sinks.k.type": "file_roll",
        "sinks.k.sink.directory": out,
        "sinks.k.sink.rollInterval": 0,
        "sinks.k.channel": "c",
    }
    emptying = agent(folder / "emptying", channel | sink)
    sizes = [-1, 0]

    def is_still() -> bool:
        # The sink flushes each batch; an empty channel is asked again within seconds.
        time.sleep(6)
        sizes.append(sum(file.stat().st_size for file in out.iterdir()))
        return sizes[-1] == sizes[-2] > 0

    awaited("the channel to be empty", is_still, emptying)
    emptying.terminate()
    emptying.wait()
    return [line for file in sorted(out.iterdir()) for line in file.read_text().splitlines()]


def taken_by_howdah(binary: Path, folder: Path, incoming: Path) -> list[str]:
    data = folder / "howdah"
    told = {"HOWDAH_FOLDER": str(incoming), "HOWDAH_DATA": str(data), "HOWDAH_LISTEN": "off"}
    command = [binary, "run", ROOT / "pipelines" / "from-folder.toml"]
    howdah = subprocess.Popen(command, env=os.environ | told, preexec_fn=die_with_parent)
    awaited("the last file", (incoming / "late.log.COMPLETED").exists, howdah)
    howdah.terminate()
    if howdah.wait() != 0:
        sys.exit(f"howdah ended with {howdah.returncode}")
    files = sorted((data / "store-from-folder/user/bigdata/lines").glob("*.jsonl"))
    return [line for file in files for line in file.read_text().splitlines()]


def main() -> None:
    binary = Path(sys.argv[1]).absolute()
    for how in (signal.SIGKILL, signal.SIGTERM):
        with tempfile.TemporaryDirectory(prefix="howdah-takeover-") as made:
            folder, incoming = Path(made), Path(made) / "incoming"
            incoming.mkdir()
            lines = fill(incoming)
            first = taken_by_flume(folder, incoming, how)
            rest = taken_by_howdah(binary, folder, incoming)
        twice = len(first) + len(rest) - len(lines)
        allowed = (0, BATCH) if how == signal.SIGKILL else (0,)
        if not 0 < len(first) < len(lines) or twice not in allowed or first + rest[twice:] != lines:
            sys.exit(f"{how.name}: Flume has {len(first):,} lines, howdah {len(rest):,}, of {len(lines):,}")
        print(f"{how.name}: Flume {flume.VERSION} has {len(first):,} lines, howdah {len(rest):,}; {twice} twice")


if __name__ == "__main__":
    main()
