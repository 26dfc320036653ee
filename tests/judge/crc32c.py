"""CRC-32C (Castagnoli), the checksum in a chain's entries.

The polynomial 0x1EDC6F41, reflected, as in RFC 3720, appendix B.4. Two bytes a step, by a table
of 65,536 remainders: slow next to an instruction of the processor, fast enough to judge.
"""

from __future__ import annotations

import sys
from array import array

REFLECTED = 0x82F63B78


def _remainder(value: int, num_bits: int) -> int:
    for _ in range(num_bits):
        value = value >> 1 ^ (REFLECTED if value & 1 else 0)
    return value


ONE = [_remainder(value, 8) for value in range(1 << 8)]
# Two zero-extended bytes: the lower one is shifted out first.
TWO = [ONE[value >> 8 ^ ONE[value & 0xFF] & 0xFF] ^ ONE[value & 0xFF] >> 8 for value in range(1 << 16)]


def crc32c(data: bytes) -> int:
    """The checksum of `data`."""
    even = len(data) & ~1
    words = array("H", data[:even])
    if sys.byteorder == "big":
        words.byteswap()
    crc, two = 0xFFFFFFFF, TWO
    for word in words:
        crc = two[(crc ^ word) & 0xFFFF] ^ crc >> 16
    for byte in data[even:]:
        crc = ONE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
