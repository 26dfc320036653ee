"""Peak memory (VmHWM, as the kernel counts it) of `howdah run pipelines/wikimedia.toml`:

- steady: 100 events a second, for ten minutes;
- collecting: a source that gives all it has at once, while nobody reads the topic;
- backlog: the archiver and both tables, from the first of these records to the last.

    memory.py HOWDAH [--minutes 10] [--backlog 3000000]

HOWDAH is the release binary. The events are the recorded ones, copied on into later hours. Needs 4 GB of disk
in $TMPDIR for each million of backlog. Ends with exit code 1 if a record is missing at the end.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipelines" / "wikimedia.toml"
PER_COPY = 2_316  # recorded events
TICK = os.sysconf("SC_CLK_TCK")


class Process:
    """One howdah, ended with the block."""

    def __init__(self, binary: Path, *arguments: object, **environment: object) -> None:
        self.child = subprocess.Popen(
            [binary, *map(str, arguments)],
            env={**os.environ, "HOWDAH_LISTEN": "off", **{name: str(value) for name, value in environment.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def run_idle(self, at_least: float) -> float:
        """Waits until it has done `at_least` so many seconds of work, and then nothing much for ten seconds;
        the CPU seconds it took."""
        before = self.cpu_seconds()
        while True:
            time.sleep(10)
            if self.child.poll() is not None:
                sys.exit(f"howdah ended with {self.child.returncode}")
            now = self.cpu_seconds()
            if now > at_least and now - before < 0.5:
                return now
            before = now

    def end(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        if self.child.wait(120) != 0:
            sys.exit(f"howdah ended with {self.child.returncode}")


def serve(binary: Path, events: Path, speed: float) -> tuple[Process, str]:
    server = Process(binary, "serve-events", events, "--speed", speed, "--listen", "127.0.0.1:0")
    line = server.child.stdout.readline()
    return server, re.search(r"http://\S+", line)[0]


def say(text: str) -> None:
    print(text, flush=True)


def archived(binary: Path, data: Path) -> int:
    command = [binary, "archive", "verify", "--deep", PIPELINE]
    environment = {**os.environ, "HOWDAH_DATA": str(data), "HOWDAH_CONTACT": "bench@example.org"}
    shown = subprocess.run(command, env=environment, text=True, capture_output=True)
    if shown.returncode != 0:
        sys.exit(f"the archive does not verify:\n{shown.stdout}{shown.stderr}")
    return int(re.search(r"([\d,]+) lines", shown.stdout)[1].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("howdah", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--backlog", type=int, default=3_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="howdah-memory-") as folder:
        if asked.minutes:
            steady(asked.howdah, Path(folder), asked.minutes)
        if asked.backlog:
            backlog(asked.howdah, Path(folder), asked.backlog)


def make(folder: Path, number: int, rate: int = 0) -> Path:
    """The recorded events, copied on into later hours, or else so many to a second."""
    copies = -(-number // PER_COPY)
    events = folder / "events.ndjson"
    maker = ROOT / "tests" / "judge" / "make_events.py"
    subprocess.run([sys.executable, maker, events, f"--copies={copies}", f"--rate={rate}"], check=True)
    return events


def steady(binary: Path, folder: Path, minutes: float) -> None:
    data = folder / "steady"
    server, url = serve(binary, make(folder, int(minutes * 60 * 100) + 10_000), 100)
    environment = {"HOWDAH_DATA": data, "WIKIMEDIA_URL": url, "HOWDAH_CONTACT": "bench@example.org"}
    with server, Process(binary, "run", PIPELINE, **environment) as howdah:
        time.sleep(minutes * 60)
        peak, cpu = howdah.peak_mb(), howdah.cpu_seconds()
        howdah.end()
    records = archived(binary, data)
    if records < minutes * 60 * 99:
        sys.exit(f"only {records} records came in {minutes:g} minutes")
    say(f"100 events a second: {peak:.0f} MB after {minutes:g} minutes ({records:,} records, {cpu:.1f} CPU s)")


def backlog(binary: Path, folder: Path, number: int) -> None:
    data, events = folder / "backlog", make(folder, number)
    with events.open("rb") as lines:
        number = sum(1 for _ in lines)
    collecting = folder / "collecting.toml"
    collecting.write_text(PIPELINE.read_text().split("[archiver.archive]")[0])
    server, url = serve(binary, events, 0)
    environment = {"HOWDAH_DATA": data, "WIKIMEDIA_URL": url, "HOWDAH_CONTACT": "bench@example.org"}
    with server, Process(binary, "run", collecting, **environment) as howdah:
        cpu = howdah.run_idle(1)
        say(f"collecting {number:,} events: {howdah.peak_mb():.0f} MB ({number / cpu / 1000:.0f} k per CPU second)")
        howdah.end()
    environment["WIKIMEDIA_URL"] = "http://127.0.0.1:9/"  # nobody answers there
    begun = time.monotonic()
    with Process(binary, "run", PIPELINE, **environment) as howdah:
        cpu = howdah.run_idle(1)
        peak, took = howdah.peak_mb(), time.monotonic() - begun
        howdah.end()
    say(f"backlog of {number:,} records: {peak:.0f} MB ({number / cpu / 1000:.0f} k per CPU second, {took:.0f} s)")
    records = archived(binary, data)
    if records != number:
        sys.exit(f"{records:,} of {number:,} records are in the archive")


if __name__ == "__main__":
    main()
