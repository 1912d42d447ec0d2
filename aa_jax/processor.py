"""Which processor this is, for code that was compiled for it."""

import hashlib
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Model and instruction sets, as Linux names them on x86 and on ARM.
KINDS = ("model name", "flags", "CPU part", "Features")


def processor() -> str:
    """Architecture and a checksum of model and instruction sets, such as "x86_64-1f3a9c07". XLA compiles for all
    instructions that a CPU has, and the result crashes on one without them."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    said = sorted({line for line in lines if line.startswith(KINDS)}) or lines[:1]
    return f"{platform.machine()}-{hashlib.sha256(' '.join(said).encode()).hexdigest()[:8]}"
