"""Kafka brokers in KRaft mode, each of them a controller too."""

import subprocess

from .java import Jars, hosts_file, properties
from .processes import Daemon, Failed, Ports, answers
from .secrets import Authority

VERSION = "4.1.1"
CLUSTER = "aG93ZGFoLXRlc3RzLWhvdw"
ADDRESS = "127.0.0.1"

# With --secure: listeners by the names of their protocols, and one user who may use them.
SECURE = ("SSL", "SASL_SSL", "SASL_PLAINTEXT")
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
USER, PASSWORD = "howdah", "secret-of-a-test"

TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "producer": "org.apache.kafka.tools.ConsoleProducer",
    "configs": "kafka.admin.ConfigCommand",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
}

LOGGING = {
    "rootLogger.level": "INFO",
    "rootLogger.appenderRef.c.ref": "C",
    "appender.c.type": "Console",
    "appender.c.name": "C",
    "appender.c.target": "SYSTEM_ERR",
    "appender.c.layout.type": "PatternLayout",
    "appender.c.layout.pattern": "%d{ISO8601} %p %c{1}: %m%n",
}


class Kafka:
    """A cluster in a folder; broker 1, 2 … are the daemons "1", "2" …"""

    kinds = ("kafka",)
    jar_set, tools, started = "kafka", TOOLS, "Kafka Server started"
    # Topics are made of segments, whose size is bounded in newer versions; this is the key without bound.
    logging_option = "-Dlog4j2.configurationFile="
    # Seconds after which retention and compaction have looked at every topic.
    forgets_within = "4"
    small_segments = "internal.segment.bytes"

    def __init__(self, folder, brokers=1, version=VERSION, archiving=False, settings=(), secure=False):
        self.folder, self.archiving, self.secure = folder, archiving, secure
        self._extra = dict(setting.split("=", 1) for setting in settings)
        self.jars = Jars(self.jar_set, version)
        self.jars.fetch()
        ports = Ports()
        self._ports = ports
        numbers = range(1, brokers + 1)
        self._listen = {n: ports.take() for n in numbers}
        self._control = {n: ports.take() for n in numbers}
        self._guarded = {name: ports.take() for name in SECURE if secure}
        if secure:
            self._authority = Authority(folder / "secrets")
            self._server, self._client = self._authority.certify("server"), self._authority.certify("client")
        self._hosts = hosts_file(folder / "hosts", [ADDRESS])
        self._prepare_logging()
        for n in numbers:
            self._configure(n)
        self.daemons = {str(n): self._daemon(n) for n in numbers}

    def _prepare_logging(self):
        properties(self.folder / "log4j2.properties", LOGGING)
        properties(self.folder / "log4j2-tools.properties", LOGGING | {"rootLogger.level": "WARN"})

    def bootstrap(self):
        return ",".join(f"{ADDRESS}:{port}" for port in self._listen.values())

    def _configure(self, n):
        brokers = len(self._listen)
        copies = min(brokers, 3)
        in_sync = 2 if copies == 3 else 1
        values = self._role(n) | {
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self.folder / f"data-{n}",
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker's partitions are led by another after this, not after nine seconds.
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 750,
            "num.network.threads": 2,
            "num.io.threads": 4,
            # Deletion, retention and compaction are waited for in tests.
            "log.retention.check.interval.ms": 500,
            "log.cleaner.backoff.ms": 200,
            "log.initial.task.delay.ms": 500,
            "file.delete.delay.ms": 500,
            "message.max.bytes": 16_000_000,
            "replica.fetch.max.bytes": 16_000_000,
        }
        for internal in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            values[f"{internal}.replication.factor"] = copies
            values[f"{internal}.num.partitions"] = 4
        for internal in ("transaction.state.log", "share.coordinator.state.topic"):
            values[f"{internal}.min.isr"] = in_sync
        if self.secure:
            values |= self._secured(values)
        properties(self.folder / f"server-{n}.properties", values | self._extra)

    def _role(self, n):
        """What makes a node a broker and a controller."""
        voters = ",".join(f"{k}@{ADDRESS}:{port}" for k, port in self._control.items())
        listener = f"PLAINTEXT://{ADDRESS}:{self._listen[n]}"
        return {
            "process.roles": "broker,controller",
            "node.id": n,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{listener},CONTROLLER://{ADDRESS}:{self._control[n]}",
            "advertised.listeners": listener,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        }

    def _secured(self, values):
        """What is different with listeners for TLS and for users beside the plain one."""
        guarded = [f"{name}://{ADDRESS}:{port}" for name, port in self._guarded.items()]
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        secured = {
            "listeners": ",".join([values["listeners"], *guarded]),
            "advertised.listeners": ",".join([values["advertised.listeners"], *guarded]),
            "listener.security.protocol.map": values["listener.security.protocol.map"]
            + "".join(f",{name}:{name}" for name in SECURE),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._server["pem"],
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._authority.ca,
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": ",".join(("PLAIN", *SCRAM)),
        }
        for name in ("sasl_ssl", "sasl_plaintext"):
            secured[f"listener.name.{name}.plain.sasl.jaas.config"] = plain
            for mechanism in SCRAM:
                secured[f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config"] = scram
        return secured

    def _java(self, heap="256m", archiving=False, logging="log4j2-tools.properties"):
        settings = [f"{self.logging_option}{self.folder / logging}"]
        return self.jars.command("kafka", heap, self._hosts, archiving=archiving, settings=settings)

    def _daemon(self, n):
        config = self.folder / f"server-{n}.properties"

        def command():
            java = self._java("384m", self.archiving, "log4j2.properties")
            return [*java, "kafka.Kafka", str(config)]

        def ready(daemon):
            return answers(ADDRESS, self._listen[n]) and daemon.said(self.started.format(n=n))

        return Daemon(str(n), command, self.folder, ready)

    def start(self):
        self._format()
        for daemon in self.daemons.values():
            daemon.launch()
        for daemon in self.daemons.values():
            daemon.wait()

    def _format(self):
        for n in self._listen:
            config = self.folder / f"server-{n}.properties"
            formatting = [*self._java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(config)]
            for mechanism in SCRAM if self.secure else ():
                formatting += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
            result = subprocess.run(formatting, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if result.returncode != 0:
                raise Failed(f"broker {n} could not format its disk:\n{result.stdout}{result.stderr}")

    def describe(self):
        about = {"server": f"Apache Kafka {self.jars.version}", "brokers": self.bootstrap()}
        about |= {"small_segments": self.small_segments, "forgets_within": self.forgets_within}
        about |= {name.lower(): f"{ADDRESS}:{port}" for name, port in self._guarded.items()}
        if self.secure:
            about |= {"ca": str(self._authority.ca), "certificate": str(self._client["crt"])}
            about |= {"key": str(self._client["key"]), "user": USER, "password": PASSWORD}
        return about

    def tool(self, name, arguments):
        """The command line of a console tool."""
        if name not in self.tools:
            raise Failed(f"no tool {name!r}, there are: {', '.join(self.tools)}")
        return [*self._java(), self.tools[name], "--bootstrap-server", self.bootstrap(), *arguments]
