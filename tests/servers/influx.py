"""InfluxDB 1.8, built from its Go module: it answers `/api/v2/write` as later versions do, and Flux queries."""

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request

from .java import base
from .processes import Daemon, Failed, Ports, answers

VERSION = "1.8.10"
ADDRESS = "127.0.0.1"
USER, PASSWORD = "howdah", "secret-of-a-test"
DATABASE, POLICY = "people", "raw"

CONFIG = """\
reporting-disabled = true
bind-address = "{address}:{inner}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  index-version = "tsi1"
[http]
  bind-address = "{address}:{port}"
  auth-enabled = true
  flux-enabled = true
  log-enabled = false
[monitor]
  store-enabled = false
"""


class Influx:
    """A server in a folder, with a database for tests; the daemon is "influxd"."""

    def __init__(self, folder, version=VERSION):
        self.version, self.folder = version, folder
        self.program = base() / f"influxdb-{version}" / "influxd"
        self.fetch()
        ports = Ports()
        self._ports, self._port = ports, ports.take()
        config = folder / "influxd.conf"
        config.write_text(CONFIG.format(address=ADDRESS, inner=ports.take(), port=self._port, folder=folder))

        def ready(daemon):
            return answers(ADDRESS, self._port)

        daemon = Daemon("influxd", lambda: [str(self.program), "-config", str(config)], folder, ready)
        self.daemons = {"influxd": daemon}

    def fetch(self):
        """Builds it once: a minute on two cores."""
        if self.program.exists():
            return
        if shutil.which("go") is None:
            raise Failed("go is not there: the tests' InfluxDB is built with it (Debian: apt install golang-go)")
        folder = self.program.parent.with_name(self.program.parent.name + ".new")
        shutil.rmtree(folder, ignore_errors=True)
        told = os.environ | {"GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
        module = f"github.com/influxdata/influxdb/cmd/influxd@v{self.version}"
        result = subprocess.run(
            ["go", "install", module], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=told, cwd="/"
        )
        if result.returncode != 0:
            raise Failed(f"go could not build {module}:\n{result.stdout}{result.stderr}")
        folder.rename(self.program.parent)

    def start(self):
        self.daemons["influxd"].start()
        # The first user may be made without being one.
        self.query(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES", known=False)
        self.query(f"CREATE DATABASE {DATABASE}")
        self.query(f"CREATE RETENTION POLICY {POLICY} ON {DATABASE} DURATION 0s REPLICATION 1")

    def query(self, text, known=True):
        who = "?" + urllib.parse.urlencode({"u": USER, "p": PASSWORD}) if known else ""
        url, body = f"http://{ADDRESS}:{self._port}/query{who}", urllib.parse.urlencode({"q": text})
        with urllib.request.urlopen(url, body.encode(), timeout=60) as answer:
            said = json.load(answer)
        wrong = [result["error"] for result in said["results"] if "error" in result]
        if wrong:
            raise Failed(f"{text}: {wrong[0]}")
        return said

    def describe(self):
        return {
            "server": f"InfluxDB {self.version}",
            "url": f"http://{ADDRESS}:{self._port}",
            "token": f"{USER}:{PASSWORD}",
            "bucket": f"{DATABASE}/{POLICY}",
        }
