"""Kafka of the time of ZooKeeper: brokers 2.8, with one ZooKeeper beside them."""

from .java import properties
from .kafka import ADDRESS, Kafka
from .processes import Daemon, answers

VERSION = "2.8.2"

LOGGING = {
    "log4j.rootLogger": "INFO,c",
    "log4j.appender.c": "org.apache.log4j.ConsoleAppender",
    "log4j.appender.c.target": "System.err",
    "log4j.appender.c.layout": "org.apache.log4j.PatternLayout",
    "log4j.appender.c.layout.ConversionPattern": "%d{ISO8601} %p %c{1}: %m%n",
}


class OldKafka(Kafka):
    """As `Kafka`; its daemons are "1", "2" … and "zookeeper"."""

    jar_set, started = "kafka-zookeeper", "[KafkaServer id={n}] started"
    logging_option = "-Dlog4j.configuration=file:"
    small_segments = "segment.bytes"
    # The first look is half a minute after the start, which no setting changes.
    forgets_within = "35"
    tools = {
        "topics": "kafka.admin.TopicCommand",
        "groups": "kafka.admin.ConsumerGroupCommand",
        "consumer": "kafka.tools.ConsoleConsumer",
        "producer": "kafka.tools.ConsoleProducer",
        "configs": "kafka.admin.ConfigCommand",
    }

    def __init__(self, folder, brokers=1, version=VERSION, **more):
        super().__init__(folder, brokers, version, **more)
        self._client_port = self._control[1]
        config = folder / "zookeeper.properties"
        values = {"dataDir": folder / "data-zookeeper", "clientPort": self._client_port, "tickTime": 500}
        properties(config, values | {"clientPortAddress": ADDRESS, "admin.enableServer": "false"})

        def command():
            return [*self._java(logging="log4j2.properties"), "org.apache.zookeeper.server.ZooKeeperServerMain", str(config)]

        daemon = Daemon("zookeeper", command, folder, lambda _: answers(ADDRESS, self._client_port))
        self.daemons = {"zookeeper": daemon, **self.daemons}

    def _prepare_logging(self):
        properties(self.folder / "log4j2.properties", LOGGING)
        properties(self.folder / "log4j2-tools.properties", LOGGING | {"log4j.rootLogger": "WARN,c"})

    def _role(self, n):
        listener = f"PLAINTEXT://{ADDRESS}:{self._listen[n]}"
        return {
            "broker.id": n,
            # A controller's port is of no use to these; ZooKeeper has the first one.
            "zookeeper.connect": f"{ADDRESS}:{self._control[1]}",
            "zookeeper.session.timeout.ms": 3_000,
            "listeners": listener,
            "advertised.listeners": listener,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT",
        }

    def _format(self):
        self.daemons["zookeeper"].start()

    def start(self):
        self._format()
        brokers = [daemon for name, daemon in self.daemons.items() if name != "zookeeper"]
        for daemon in brokers:
            daemon.launch()
        for daemon in brokers:
            daemon.wait()
