"""What is lost and what is there twice after a `kill -9` in the middle of the work."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from servers.processes import Failed

from .launches import Bench, Input, Launch, archiving, collecting
from .measured import Measured
from .runs import LOOK_EVERY, limit, make_topic, start
from .sinks import Blocks, ids, is_finished

# A consumer that was killed is missed by its group only after a while, and a JVM has to start.
STILL = {"collect": 20, "archive": 45}


@dataclass(frozen=True)
class Found:
    """Records at the sink after all; `unfinished` are the lost ones that stand in a file that was never closed."""

    records: int
    lost: int
    repeated: int
    unfinished: int


def until(process: Measured, progress: Callable[[], int], whole: int, still: float, seconds: float) -> None:
    """Waits until so much has arrived; with `still`, until nothing has come for so long."""
    seen, moved = 0, time.monotonic()
    while process.sample():
        now, arrived = time.monotonic(), progress()
        if arrived > seen:
            seen, moved = arrived, now
        if seen >= whole and now - moved >= still:
            return
        if now > process.begun + seconds:
            raise Failed(f"{process.name}: {seen:,} of {whole:,} at the sink after {seconds:.0f} s:\n{process.tail()}")
        time.sleep(LOOK_EVERY / 4)
    raise Failed(f"{process.name} ended with {process.child.returncode}:\n{process.tail()}")


def count(given: Input, found: Iterable[bytes], unfinished: Iterable[bytes] = ()) -> Found:
    with given.events.open("rb") as lines:
        sent = set(ids(lines))
    found = list(found)
    lost = sent - set(found)
    # What is no event of ours, such as half a line, is neither.
    return Found(len(found), len(lost), len(found) - len(sent & set(found)), len(lost & set(unfinished)))


def twice(
    bench: Bench, stage: str, given: Input, name: str, launch: Launch, progress: Callable[[], int], whole: int
) -> None:
    """Kills it when half has arrived, and starts it again."""
    with start(bench, name, launch) as process:
        until(process, progress, whole // 2, 0, limit(given.number))
        process.kill()
    with start(bench, name, launch) as process:
        until(process, progress, 0, STILL[stage], limit(given.number))
        process.end()


def collect(bench: Bench, who: str, given: Input, name: str) -> Found:
    with ExitStack() as around:
        topic = make_topic(bench, name)
        twice(bench, "collect", given, name, collecting(bench, who, given, name, name, around), topic.end, given.number)
    return count(given, topic.ids())


def archive(bench: Bench, who: str, given: Input, name: str) -> Found:
    blocks, size = Blocks(bench.hdfs), given.events.stat().st_size
    twice(bench, "archive", given, name, archiving(bench, who, given, name), blocks.written, size)
    files = bench.hdfs.files(f"/{name}")
    finished = [path for path in files if is_finished(path)]
    unfinished = [path for path in files if path.endswith(".tmp")]
    found = count(given, everything(bench, finished), everything(bench, unfinished))
    bench.hdfs.delete(f"/{name}")
    return found


def everything(bench: Bench, paths: list[str]) -> Iterator[bytes]:
    for path in paths:
        yield from ids(bench.hdfs.lines(path))


STAGES = {"collect": collect, "archive": archive}
