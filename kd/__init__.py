"""Knowledge distillation on MNIST, made visible: the library below the app."""

import os

# Before torch is imported. By default OpenMP's threads spin while they wait, and where
# anything else wants the same cores (a browser, other visitors) every small matrix
# product waits out a time slice: measured on 2 busy cores, an epoch of mlp-128 took
# 30-70 s spinning and 2.6 s waiting passively.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
