"""What has arrived: in a topic of Kafka, and in a folder of HDFS."""

import getpass
import json
import os
import re
import socket
import struct
import subprocess
import urllib.error
import urllib.request
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from servers.processes import Failed

EVENT_ID = re.compile(rb'"id":"([0-9a-f-]{36})"')
# What a client of HDFS sends at once.
PACKET = 64 << 10


class Topic:
    """A topic of one partition."""

    def __init__(self, brokers: str, name: str) -> None:
        self.brokers, self.name = brokers, name
        host, port = brokers.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)

    def end(self) -> int:
        """The offset before which everything can be read, markers of transactions among it.

        A request a few bytes long over a connection that stays open (ListOffsets, version 2, read committed):
        a client's start ten times a second would take its share of the machine.
        """
        name = self.name.encode()
        body = struct.pack(">ibih", -1, 1, 1, len(name)) + name + struct.pack(">iiq", 1, 0, -1)
        head = struct.pack(">hhih", 2, 2, 0, -1)
        self._socket.sendall(struct.pack(">i", len(head + body)) + head + body)
        (length,) = struct.unpack(">i", self._receive(4))
        error, _, offset = struct.unpack(">hqq", self._receive(length)[-18:])
        if error:
            raise Failed(f"Kafka answers error {error} when asked for the end of {self.name}")
        return offset

    def _receive(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            more = self._socket.recv(length - len(got))
            if not more:
                raise Failed("Kafka closed the connection")
            got += more
        return got

    def reading(self, shown: str) -> list[str]:
        """A command that prints all its records, each as `shown` says."""
        command = ["kcat", "-C", "-e", "-q", "-b", self.brokers, "-t", self.name, "-o", "beginning"]
        return [*command, "-X", "isolation.level=read_committed", "-f", shown]

    def count(self) -> int:
        with subprocess.Popen(self.reading("."), stdout=subprocess.PIPE) as kcat:
            return sum(map(len, iter(lambda: kcat.stdout.read(1 << 20), b"")))

    def ids(self) -> Iterator[bytes]:
        with subprocess.Popen(self.reading("%s\n"), stdout=subprocess.PIPE) as kcat:
            yield from ids(kcat.stdout)


def ids(lines) -> Iterator[bytes]:
    """The id of the event in each line; of what is no whole event, the line."""
    for line in lines:
        found = EVENT_ID.search(line)
        yield found[1] if found else line


class Hdfs:
    """A cluster in which each DataNode has a copy of everything, by WebHDFS."""

    def __init__(self, about: dict) -> None:
        self.url, self.conf = about["url"], Path(about["conf"])
        settings = {
            property.findtext("name"): property.findtext("value")
            for property in xml.parse(self.conf / "hdfs-site.xml").getroot()
        }
        self._namenode = f"http://{settings['dfs.namenode.http-address']}"

    def address(self, path: str, operation: str) -> str:
        return f"{self._namenode}/webhdfs/v1{quote(path)}?op={operation}&user.name={getpass.getuser()}"

    def _ask(self, path: str, operation: str, method: str = "GET"):
        request = urllib.request.Request(self.address(path, operation), method=method)
        return urllib.request.urlopen(request, timeout=60)

    def list(self, folder: str) -> list[dict]:
        """What WebHDFS says of each entry; nothing of a folder that is not there."""
        try:
            with self._ask(folder, "LISTSTATUS") as answer:
                return json.load(answer)["FileStatuses"]["FileStatus"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise

    def files(self, folder: str) -> dict[str, int]:
        """Every file below, with its length."""
        found = {}
        for entry in self.list(folder):
            path = f"{folder}/{entry['pathSuffix']}"
            found |= self.files(path) if entry["type"] == "DIRECTORY" else {path: entry["length"]}
        return found

    def lines(self, path: str) -> Iterator[bytes]:
        with self._ask(path, "OPEN") as answer:
            yield from answer

    def place(self, path: str) -> str:
        """The address at a DataNode to which a new file can be put."""
        with self._ask(path, "CREATE&overwrite=true&noredirect=true", "PUT") as answer:
            return json.load(answer)["Location"]

    def delete(self, folder: str) -> None:
        self._ask(folder, "DELETE&recursive=true", "DELETE").close()


class Blocks:
    """What was written to HDFS since then, as it lies on a DataNode's disk.

    Of a file that is open the NameNode knows no length, and a DataNode tells its figures every ten seconds.
    """

    def __init__(self, hdfs: Hdfs) -> None:
        self._folder = hdfs.conf.parent / "data-dn-1"
        self._before = set(self._sizes())

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for folder, _, names in os.walk(self._folder):
            for name in names:
                if name.startswith("blk_") and not name.endswith(".meta"):
                    try:
                        sizes[name] = os.stat(f"{folder}/{name}").st_size
                    except FileNotFoundError:  # was moved meanwhile: it is complete now
                        continue
        return sizes

    def written(self) -> int:
        """Nothing before a first packet is there: notes of less come before records."""
        size = sum(size for name, size in self._sizes().items() if name not in self._before)
        return size if size >= PACKET else 0


def is_finished(path: str) -> bool:
    """Whether readers take it for data: not what is hidden, nor what Flume has not closed."""
    return not path.endswith(".tmp") and not any(part.startswith(("_", ".")) for part in path.split("/"))
