"""HDFS: NameNodes and DataNodes, and JournalNodes where there are two NameNodes."""

import json
import subprocess
import time
import urllib.request
from xml.sax.saxutils import escape

from .java import Jars, hosts_file, properties
from .processes import Daemon, Failed, Ports, answers

VERSION = "3.4.2"
ADDRESS = "127.0.0.1"
SERVICE = "howdahtest"
SERVER = "org.apache.hadoop.hdfs.server"
MAIN = {
    "nn": f"{SERVER}.namenode.NameNode",
    "dn": f"{SERVER}.datanode.DataNode",
    "jn": "org.apache.hadoop.hdfs.qjournal.server.JournalNode",
}
HEAP = {"nn": "256m", "dn": "192m", "jn": "128m"}
TOOLS = {
    "fs": "org.apache.hadoop.fs.FsShell",
    "admin": "org.apache.hadoop.hdfs.tools.DFSAdmin",
    "haadmin": "org.apache.hadoop.hdfs.tools.DFSHAAdmin",
    "fsck": "org.apache.hadoop.hdfs.tools.DFSck",
}
LOGGING = {
    "log4j.rootLogger": "INFO,c",
    "log4j.appender.c": "org.apache.log4j.ConsoleAppender",
    "log4j.appender.c.target": "System.err",
    "log4j.appender.c.layout": "org.apache.log4j.PatternLayout",
    "log4j.appender.c.layout.ConversionPattern": "%d{ISO8601} %p %c{2}: %m%n",
    "log4j.logger.org.apache.hadoop.util.NativeCodeLoader": "ERROR",
    "log4j.logger.org.apache.hadoop.util.Shell": "OFF",
}


def site(path, values):
    """A configuration file of Hadoop's."""
    rows = "".join(
        f"  <property><name>{escape(str(key))}</name><value>{escape(str(value))}</value></property>\n"
        for key, value in values.items()
    )
    path.write_text(f"<configuration>\n{rows}</configuration>\n")


def jmx(url, bean, context=None):
    """What a daemon says of itself, or nothing."""
    try:
        with urllib.request.urlopen(f"{url}/jmx?qry=Hadoop:service={bean}", timeout=2, context=context) as answer:
            beans = json.load(answer)["beans"]
    except (OSError, ValueError):
        return {}
    return beans[0] if beans else {}


class Hdfs:
    """A cluster in a folder; its daemons are "nn-1", "dn-1", "dn-2" … and "jn-1" …"""

    kinds = ("nn", "dn")
    # What the daemons' own pages speak, and what their certificates are checked by.
    scheme, context = "http", None
    # Who may do everything, where it is not whoever started the cluster.
    superuser = None

    def __init__(self, folder, datanodes=3, ha=False, version=VERSION, archiving=False, settings=()):
        self.folder, self.archiving, self.ha = folder, archiving, ha
        self._extra = dict(setting.split("=", 1) for setting in settings)
        self.jars = Jars("hadoop", version)
        self.jars.fetch()
        self._ports = Ports()
        names = [f"jn-{n}" for n in range(1, 4) if ha]
        names += [f"nn-{n}" for n in range(1, 3 if ha else 2)]
        names += [f"dn-{n}" for n in range(1, datanodes + 1)]
        self._rpc = {name: f"{ADDRESS}:{self._ports.take()}" for name in names}
        self._http = {name: f"{ADDRESS}:{self._ports.take()}" for name in names}
        self._data = {name: f"{ADDRESS}:{self._ports.take()}" for name in names}
        self._hosts = hosts_file(folder / "hosts", [ADDRESS])
        self._prepare()
        self.conf = self._configure("client")
        self.daemons = {name: self._daemon(name) for name in names}

    # What a guarded cluster does otherwise.

    def _prepare(self):
        """Before anything is configured."""

    def _core(self):
        """Beside the usual, for `core-site.xml`."""
        return {}

    def _guards(self, kind):
        """Beside the usual, for the `hdfs-site.xml` of a kind of daemon or of "cl"ients."""
        return {}

    def _options(self):
        """For each JVM."""
        return []

    def _identity(self, user):
        """What precedes the command of a tool that a user runs."""
        return ["env", f"HADOOP_USER_NAME={user}"] if user else []

    def _furnish(self):
        """When a NameNode is active for the first time."""

    def url(self):
        return f"hdfs://{SERVICE}" if self.ha else f"hdfs://{self._rpc['nn-1']}"

    def _configure(self, name):
        """Writes the configuration folder of a daemon, or the clients' one."""
        conf = self.folder / f"conf-{name}"
        # The daemons look for these folders on their class path, and the jars do not hold them.
        for part in ("hdfs", "datanode", "journal", "static"):
            (conf / "webapps" / part).mkdir(parents=True, exist_ok=True)
        core = {
            "fs.defaultFS": self.url(),
            "hadoop.tmp.dir": self.folder / "tmp",
            "ipc.client.connect.max.retries": 3,
            "ipc.client.connect.retry.interval": 300,
        }
        site(conf / "core-site.xml", core | self._core())
        datanodes = sum(name.startswith("dn") for name in self._rpc)
        values = {
            "dfs.replication": min(datanodes, 3),
            "dfs.blocksize": 64 << 20,
            "dfs.namenode.fs-limits.min-block-size": 4096,
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.namenode.safemode.extension": 0,
            "dfs.namenode.safemode.min.datanodes": 0,
            # A dead DataNode is known as dead after some ten seconds, not after ten minutes.
            "dfs.heartbeat.interval": 1,
            "dfs.namenode.heartbeat.recheck-interval": 2_000,
            "dfs.namenode.stale.datanode.interval": 8_000,
            "dfs.namenode.lease-hard-limit-sec": 60,
            "dfs.namenode.lease-recheck-interval-ms": 500,
            "dfs.namenode.redundancy.interval.seconds": "1s",
            "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
            "dfs.datanode.du.reserved": 0,
        }
        if self.ha:
            values |= self._names_of_two()
        else:
            values["dfs.namenode.rpc-address"] = self._rpc["nn-1"]
            values[f"dfs.namenode.{self.scheme}-address"] = self._http["nn-1"]
        kind = name[:2]
        if kind == "nn":
            values |= {"dfs.namenode.name.dir": f"file://{self.folder}/data-{name}", "dfs.namenode.handler.count": 6}
            if self.ha:
                values["dfs.ha.namenode.id"] = name.replace("-", "")
        elif kind == "dn":
            values |= {
                "dfs.datanode.data.dir": f"file://{self.folder}/data-{name}",
                # A name would be looked up by clients that know nothing of the servers' own hosts file.
                "dfs.datanode.hostname": ADDRESS,
                "dfs.datanode.address": self._data[name],
                f"dfs.datanode.{self.scheme}.address": self._http[name],
                "dfs.datanode.ipc.address": self._rpc[name],
            }
        elif kind == "jn":
            values |= {
                "dfs.journalnode.edits.dir": f"{self.folder}/data-{name}",
                "dfs.journalnode.rpc-address": self._rpc[name],
                f"dfs.journalnode.{self.scheme}-address": self._http[name],
            }
        site(conf / "hdfs-site.xml", values | self._guards(kind) | self._extra)
        properties(conf / "log4j.properties", LOGGING | ({"log4j.rootLogger": "WARN,c"} if name == "client" else {}))
        return conf

    def _names_of_two(self):
        journals = ";".join(self._rpc[f"jn-{n}"] for n in range(1, 4))
        values = {
            "dfs.nameservices": SERVICE,
            f"dfs.ha.namenodes.{SERVICE}": "nn1,nn2",
            "dfs.namenode.shared.edits.dir": f"qjournal://{journals}/{SERVICE}",
            f"dfs.client.failover.proxy.provider.{SERVICE}": f"{SERVER}.namenode.ha.ConfiguredFailoverProxyProvider",
            "dfs.ha.fencing.methods": "shell(/bin/true)",
            "dfs.ha.tail-edits.in-progress": "true",
            "dfs.ha.tail-edits.period": "1s",
        }
        for n in (1, 2):
            values[f"dfs.namenode.rpc-address.{SERVICE}.nn{n}"] = self._rpc[f"nn-{n}"]
            values[f"dfs.namenode.{self.scheme}-address.{SERVICE}.nn{n}"] = self._http[f"nn-{n}"]
        return values

    def _java(self, kind, conf, heap="256m", archiving=False):
        settings = [f"-Dlog4j.configuration=file:{conf}/log4j.properties", f"-Dhadoop.home.dir={self.folder}"]
        settings += self._options()
        return self.jars.command(kind, heap, self._hosts, behind=[conf], archiving=archiving, settings=settings)

    def _daemon(self, name):
        conf, kind = self._configure(name), name[:2]

        def command():
            return [*self._java(kind, conf, HEAP[kind], self.archiving and kind in self.kinds), MAIN[kind]]

        def ready(daemon):
            if kind == "jn":
                return answers(*self._split(self._rpc[name]))
            if kind == "nn":
                return bool(self._jmx(name, "NameNode,name=NameNodeStatus").get("State"))
            knows = self._jmx(name, "DataNode,name=DataNodeInfo").get("NamenodeAddresses")
            return bool(knows) and daemon.said("Successfully sent block report")

        return Daemon(name, command, self.folder, ready)

    def _jmx(self, name, bean):
        return jmx(f"{self.scheme}://{self._http[name]}", bean, self.context)

    @staticmethod
    def _split(address):
        host, port = address.rsplit(":", 1)
        return host, int(port)

    def _format(self, name, *how):
        command = [*self._java("nn", self.folder / f"conf-{name}"), MAIN["nn"], *how]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode != 0:
            raise Failed(f"{name} could not be formatted:\n{result.stdout}{result.stderr}")

    def start(self):
        kinds = {kind: [d for name, d in self.daemons.items() if name[:2] == kind] for kind in ("jn", "nn", "dn")}
        for daemon in kinds["jn"]:
            daemon.launch()
        for daemon in kinds["jn"]:
            daemon.wait()
        self._format("nn-1", "-format", "-nonInteractive", "-force", "-clusterId", "howdah-test")
        for daemon in kinds["dn"]:
            daemon.launch()
        kinds["nn"][0].start()
        if self.ha:
            self._format("nn-2", "-bootstrapStandby", "-nonInteractive", "-force")
            kinds["nn"][1].start()
            self.run("haadmin", ["-transitionToActive", "nn1"])
        self._furnish()
        for daemon in kinds["dn"]:
            daemon.wait()
        self.settle()

    def settle(self):
        """Until a NameNode that is active counts every DataNode that runs, and is out of safe mode."""
        wanted = sum(daemon.runs() for name, daemon in self.daemons.items() if name[:2] == "dn")
        end = time.monotonic() + 90
        while time.monotonic() < end:
            for name in self._http:
                if name[:2] != "nn" or not self.daemons[name].runs():
                    continue
                state = self._jmx(name, "NameNode,name=FSNamesystemState")
                role = self._jmx(name, "NameNode,name=NameNodeStatus").get("State")
                live = state.get("NumLiveDataNodes", 0)
                if role == "active" and state.get("FSState") == "Operational" and live >= wanted:
                    return
            time.sleep(0.1)
        raise Failed("no NameNode became active, out of safe mode and aware of every DataNode in 90 s")

    def run(self, tool, arguments):
        command = self.tool(tool, arguments, self.superuser)
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode != 0:
            raise Failed(f"{tool} {arguments} ended with {result.returncode}:\n{result.stdout}{result.stderr}")

    def describe(self):
        return {"server": f"Apache Hadoop HDFS {self.jars.version}", "url": self.url(), "conf": str(self.conf)}

    def tool(self, name, arguments, user=None):
        """The command line of one of Hadoop's own tools, run by the usual user or another."""
        if name not in TOOLS:
            raise Failed(f"no tool {name!r}, there are: {', '.join(TOOLS)}")
        return [*self._identity(user), *self._java("nn", self.conf), TOOLS[name], *arguments]
