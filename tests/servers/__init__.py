"""Real servers for tests: Kafka, HDFS, InfluxDB and OpenSearch, as their makers publish them, on loopback addresses.

`python3 -m servers kafka` (or `hdfs`, `influx`, `opensearch`) starts a cluster, prints one line of JSON when it is ready, takes
commands as lines of JSON, answers each with one, and ends everything it started when its input ends.
Only the standard library is used; the servers' jars come through Maven, and InfluxDB is built with Go.
"""
