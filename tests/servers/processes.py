"""Processes that never outlive this one, and ports that nobody else is given."""

import ctypes
import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# What prctl(2) calls PR_SET_PDEATHSIG: the signal a process gets when its parent dies.
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)

# Below 32768: above it, an outgoing connection of any process may hold the port already.
FIRST_PORT, PORTS_A_BLOCK, BLOCKS = 20_000, 40, 300


class Failed(Exception):
    """A server did not do what was asked of it; the text says which, and shows the end of its log."""


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Ports:
    """A block of ports that is held, against others that hold blocks, until this process ends."""

    def __init__(self):
        folder = Path(tempfile.gettempdir()) / "howdah-test-ports"
        folder.mkdir(exist_ok=True)
        for block in random.sample(range(BLOCKS), BLOCKS):
            self._held = open(folder / str(block), "w")
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._held.close()
                continue
            self._next = FIRST_PORT + block * PORTS_A_BLOCK
            self._end = self._next + PORTS_A_BLOCK
            return
        raise Failed(f"all {BLOCKS} blocks of ports in {folder} are held")

    def take(self, address="127.0.0.1"):
        """A port of the block at which nobody listens."""
        while self._next < self._end:
            port, self._next = self._next, self._next + 1
            with socket.socket() as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind((address, port))
                except OSError:
                    continue
                return port
        raise Failed("the block of ports is used up")


def answers(address, port):
    """Whether something listens there."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


class Daemon:
    """One server process, which can be started again after its end."""

    def __init__(self, name, command, folder, ready, start_seconds=90, stop_seconds=30):
        """`command` makes the argument list; `ready` says whether the server can be used."""
        self.name, self.folder = name, Path(folder)
        self._command, self._ready = command, ready
        self._start_seconds, self._stop_seconds = start_seconds, stop_seconds
        self._process = None
        self._began_at = 0

    @property
    def log(self):
        return self.folder / f"{self.name}.log"

    def pid(self):
        return self._process.pid

    def runs(self):
        return self._process is not None and self._process.poll() is None

    def launch(self):
        """Starts it, without waiting."""
        if self.runs():
            raise Failed(f"{self.name} runs already")
        # Earlier lives stay in the log; only what comes now is looked at.
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )

    def said(self, text):
        """Whether this life's log holds the text."""
        with open(self.log, "rb") as log:
            log.seek(self._began_at)
            return text.encode() in log.read()

    def wait(self):
        """Until it can be used."""
        end = time.monotonic() + self._start_seconds
        while not self._ready(self):
            if not self.runs():
                raise Failed(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                raise Failed(f"{self.name} was not ready in {self._start_seconds} s:\n{self.tail()}")
            time.sleep(0.1)

    def start(self):
        self.launch()
        self.wait()

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def pause(self):
        """Returns when every thread stands still: for milliseconds after the signal, some still answer."""
        self._process.send_signal(signal.SIGSTOP)
        how = os.waitid(os.P_PID, self.pid(), os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if how.si_code != os.CLD_STOPPED:
            raise Failed(f"{self.name} ended where it was to pause:\n{self.tail()}")

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how):
        if not self.runs():
            return
        self._process.send_signal(how)
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


