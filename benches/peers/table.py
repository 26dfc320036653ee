"""What the log of a Delta table says of its progress."""

import json
import time

from .sinks import Hdfs


class Log:
    """Of the table in a folder."""

    def __init__(self, hdfs: Hdfs, folder: str) -> None:
        self._hdfs, self._folder = hdfs, f"{folder}/_delta_log"
        self._read = set()
        self._next = 0
        self._moments = []

    def position(self) -> int:
        """The offset of the topic up to which howdah has counted."""
        for name in sorted(entry["pathSuffix"] for entry in self._hdfs.list(self._folder)):
            if name.endswith(".json") and not name.startswith(".") and name not in self._read:
                self._read.add(name)
                self._take(list(map(json.loads, self._hdfs.lines(f"{self._folder}/{name}"))))
        return self._next

    def _take(self, actions: list[dict]) -> None:
        for action in actions:
            if "txn" in action and action["txn"]["appId"].endswith("/next"):
                self._next = max(self._next, action["txn"]["version"])
        # Not when rows that are there already are put together in fewer files.
        if any(action.get("add", {}).get("dataChange") for action in actions):
            moment = next(action["commitInfo"]["timestamp"] for action in actions if "commitInfo" in action)
            self._moments.append(moment / 1000)

    def times(self) -> tuple[float, float]:
        """When the first and the last rows were committed, by this machine's `time.monotonic`."""
        self.position()
        ahead = time.time() - time.monotonic()
        return min(self._moments) - ahead, max(self._moments) - ahead
