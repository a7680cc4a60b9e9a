"""What the host's processor multiplies faster than float32, read off /proc/cpuinfo (x86, Linux)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Processor:
    """Vendor and instruction sets, as Linux names them; empty where they cannot be read."""

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @classmethod
    def here(cls, cpuinfo: Path = CPUINFO) -> Processor:
        """Read those of this machine."""
        try:
            lines = cpuinfo.read_text().splitlines()
        except OSError:
            return cls()
        fields = {name.strip(): value for name, _, value in (line.partition(":") for line in lines)}
        return cls(fields.get("vendor_id", "").strip(), frozenset(fields.get("flags", "").split()))

    @property
    def has_int8(self) -> bool:
        """Whether it multiplies 8-bit integers without overflow in between."""
        return bool(self.flags & INT8)

    @property
    def has_bfloat16(self) -> bool:
        """Whether it has instructions for bfloat16 at all."""
        return bool(self.flags & BFLOAT16)

    @property
    def fast_bfloat16(self) -> bool:
        """Whether products in bfloat16 take less time than in float32.

        Measured with torch 2.11 on an Intel Xeon with AVX512-BF16 but without AMX: 1.5 to 2 times
        as long. AMX, and AMD's instructions, are taken for fast without a measurement.
        """
        return "amx_bf16" in self.flags or (self.has_bfloat16 and self.vendor == "AuthenticAMD")
