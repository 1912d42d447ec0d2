"""The processor's name decides whether code that was compiled for one runs on another."""

import platform

from aa_jax import processor as module
from aa_jax.processor import processor

CPUINFO = """processor : 0
model name : Thing
flags : sse avx
MHz : {}

processor : 1
model name : Thing
flags : sse avx
"""


def test_the_same_every_time_and_whatever_the_clock(tmp_path, monkeypatch):
    assert processor() == processor() and processor().startswith(platform.machine())
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    names = []
    for text in (CPUINFO.format(1000), CPUINFO.format(2000), CPUINFO.format(1000).replace("avx", "avx512f")):
        (tmp_path / "cpuinfo").write_text(text)
        names.append(processor())
    assert names[0] == names[1] != names[2]


def test_without_linux(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "one")
    first = processor()
    monkeypatch.setattr(platform, "processor", lambda: "other")
    assert processor() != first
