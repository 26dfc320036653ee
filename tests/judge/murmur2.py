"""Kafka's way from a key to a partition.

`DefaultPartitioner` hashes the key's bytes by MurmurHash2 (32 bits, seed 0x9747b28c), clears the
sign bit and takes the rest of the division by the number of partitions.
"""

from __future__ import annotations

SEED = 0x9747B28C
M = 0x5BD1E995
MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The hash, as a number without sign."""
    h = SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * M & MASK
        k = (k ^ k >> 24) * M & MASK
        h = h * M & MASK ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * M & MASK
    h = (h ^ h >> 13) * M & MASK
    return h ^ h >> 15


def partition_of(key: str, num_partitions: int) -> int:
    """The partition of a record with this key."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % num_partitions
