"""Objects that all sessions of the server share."""

from __future__ import annotations

import sys

import streamlit as st

from kd.data import sources
from kd.jobs.manager import JobManager
from kd.ui.server import lifespan

# Seconds after which a thread that runs Python yields to another. Page scripts and training take turns at
# each operation, and with Python's default training waited 5 ms for each turn. Measured on two busy cores
# with a thread that runs Python all the time: training keeps 45% of its speed instead of 27%; shorter
# intervals gain nothing.
SWITCH = 0.0005


@st.cache_resource(show_spinner="Loading the teacher and MNIST…")
def manager() -> JobManager:
    """Return the job manager, one per process, with its data source."""
    sys.setswitchinterval(SWITCH)
    made = JobManager(sources.Source())
    lifespan.at_end(made.close)
    return made


def source() -> str:
    """Return the source of the data now, which changes when the download ends: a key of what is cached."""
    return manager().source.mnist().source
