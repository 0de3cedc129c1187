"""Knowledge distillation on MNIST, made visible: the library below the app."""

import os

from kd.device import cores

# Before torch is imported. By default OpenMP's threads spin for long while they wait,
# and where anything else wants the same cores (a browser, other visitors) every small
# matrix product waits out a time slice: measured on 2 busy cores, an epoch of mlp-128
# took 30-70 s instead of 2.6 s. Not spinning at all costs half the speed on a quiet
# machine (1.0 s an epoch instead of 0.5 s), a short spin nothing on either.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# OpenMP counts the machine's cores. With a quota of processor time, as in a container, more
# threads than it allows would use it up and then all be stopped until the next period.
if cores() < (os.cpu_count() or 1):
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))

__version__ = "0.1.0"
