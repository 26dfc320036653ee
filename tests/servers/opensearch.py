"""An OpenSearch node from its jars, without the plugins of the distribution: no security, and so no users."""

import json
import subprocess
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from .java import HERE, Jars, hosts_file, properties
from .processes import Daemon, Failed, Ports

VERSION = "2.19.1"
ADDRESS = "127.0.0.1"
MAIN = "OpenSearchNode"

LOGGING = {
    "rootLogger.level": "INFO",
    "rootLogger.appenderRef.c.ref": "C",
    "appender.c.type": "Console",
    "appender.c.name": "C",
    "appender.c.target": "SYSTEM_ERR",
    "appender.c.layout.type": "PatternLayout",
    "appender.c.layout.pattern": "%d{ISO8601} %p %c{1}: %m%n",
}


class OpenSearch:
    """A node in a folder; the daemon is "opensearch"."""

    kinds = ("opensearch",)

    def __init__(self, folder, version=VERSION, archiving=False, settings=()):
        self.version, self.folder = version, folder
        self.jars = Jars("opensearch", version)
        self.jars.fetch()
        self._compile()
        ports = Ports()
        self._ports, self._port, inner = ports, ports.take(), ports.take()
        properties(folder / "log4j2.properties", LOGGING)
        hosts = hosts_file(folder / "hosts", [ADDRESS])
        logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"

        def command():
            told = [logging, f"-Dopensearch.path.home={folder / 'home'}"]
            java = self.jars.command("opensearch", "512m", hosts, archiving=archiving, settings=told)
            return [*java, MAIN, str(folder / "home"), str(self._port), str(inner), *settings]

        self.daemons = {"opensearch": Daemon("opensearch", command, folder, lambda _: self._is_green())}

    def _compile(self):
        """Puts the main class into a jar among the others: beside a folder of classes no archive of them is made."""
        source, jar = HERE / f"{MAIN}.java", self.jars.folder / f"{MAIN}.jar"
        if jar.exists() and jar.stat().st_mtime >= source.stat().st_mtime:
            return
        with tempfile.TemporaryDirectory() as classes:
            compiling = ["javac", "-cp", f"{self.jars.folder}/*", "-d", classes, str(source)]
            try:
                result = subprocess.run(compiling, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            except FileNotFoundError:
                why = "javac is not there: the tests' OpenSearch needs it (Debian: apt install openjdk-17-jdk-headless)"
                raise Failed(why) from None
            if result.returncode != 0:
                raise Failed(f"{source} cannot be compiled:\n{result.stdout}{result.stderr}")
            with zipfile.ZipFile(jar, "w") as packed:
                for made in sorted(Path(classes).iterdir()):
                    packed.write(made, made.name)

    def _is_green(self):
        try:
            with urllib.request.urlopen(f"http://{ADDRESS}:{self._port}/_cluster/health", timeout=5) as answer:
                return json.load(answer)["status"] in ("green", "yellow")
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def start(self):
        self.daemons["opensearch"].start()

    def describe(self):
        return {"server": f"OpenSearch {self.version}", "url": f"http://{ADDRESS}:{self._port}"}
