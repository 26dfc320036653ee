"""A process with all that it starts: its CPU seconds and peak memory, as the kernel counts them."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from memory import TICK
from servers.processes import Failed, die_with_parent

STOP_SECONDS = 120


def children(pid: int) -> list[int]:
    """Those that live, and theirs."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, read(listed).split()):
            found += [child, *children(child)]
    return found


def read(path: Path) -> str:
    """What stands there; nothing once the process is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


class Measured:
    """A running program, ended with the block. Times are of `time.monotonic`."""

    def __init__(self, command: list, log: Path, **environment: object) -> None:
        self.name, self.log = Path(str(command[0])).name, log
        self.begun, self._samples, self._peaks = time.monotonic(), [], {}
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                [*map(str, command)],
                env={**os.environ, **{key: str(value) for key, value in environment.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that a shell's pipe can be ended as a whole
                preexec_fn=die_with_parent,
            )

    def __enter__(self) -> "Measured":
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.returncode is None:
            self.kill()

    def sample(self) -> bool:
        """Notes what it has used so far; whether it runs still."""
        if self.child.returncode is None:
            cpu = 0.0
            for pid in [self.child.pid, *children(self.child.pid)]:
                fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
                cpu += sum(map(int, fields[11:15])) / TICK  # those of children that it has waited for, too
                if peak := re.search(r"VmHWM:\s*(\d+) kB", read(Path(f"/proc/{pid}/status"))):
                    self._peaks[pid] = int(peak[1]) / 1024
            self._samples.append((time.monotonic(), cpu))
            self._wait(os.WNOHANG)
        return self.child.returncode is None

    def cpu_at(self, moment: float) -> float:
        """The CPU seconds that it had used by then."""
        return max((cpu for at, cpu in self._samples if at <= moment), default=0.0)

    def peak_mb(self) -> float:
        return sum(self._peaks.values())

    def kill(self) -> None:
        os.killpg(self.child.pid, signal.SIGKILL)
        self._wait(0)

    def end(self) -> float:
        """Has it end in its own way, unless it has ended; the CPU seconds of its whole life."""
        if self.child.returncode is None:
            self.child.send_signal(signal.SIGTERM)
            end = time.monotonic() + STOP_SECONDS
            while self.sample():
                if time.monotonic() > end:
                    raise Failed(f"{self.name} did not end in {STOP_SECONDS} s:\n{self.tail()}")
                time.sleep(0.05)
        # A JVM that is ended by a signal says so even after it has cleaned up.
        if self.child.returncode not in (0, 128 + signal.SIGTERM):
            raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
        return self.cpu

    def _wait(self, how: int) -> None:
        pid, status, used = os.wait4(self.child.pid, how)
        if pid:
            self.child.returncode = os.waitstatus_to_exitcode(status)
            self.cpu = used.ru_utime + used.ru_stime

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])
