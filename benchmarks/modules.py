"""Runs modules of Python one after the other, as a person would from the command line."""

import os
import subprocess
import sys

# Two devices of one thread each step faster than one of two threads: threads wait less for one another.
TWO_CORES = "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false"


def call(*command: object) -> None:
    """`python -m MODULE ARGUMENT...`, which prints for itself; on a machine of two cores each is a device of JAX.

    Raises:
      subprocess.CalledProcessError: it failed.
    """
    environment = dict(os.environ)
    if os.cpu_count() == 2:
        environment.setdefault("XLA_FLAGS", TWO_CORES)
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True, env=environment)
