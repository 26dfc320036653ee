"""howdah beside its peers, Flume and Spark, on a real Kafka and a real HDFS: what each of them costs."""
