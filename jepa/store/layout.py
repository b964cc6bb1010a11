"""The names of all files of a run and of a sweep. Every other module takes them from here.

A run's folder holds its configuration, its numbers and its result. A sweep's folder holds a folder for each job, named
by the hash of what the job computes, and a few files of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from jepa.files import PathLike

# --- a run -----------------------------------------------------------------------------------------------------------

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
METRICS = "metrics.jsonl"  # one record a line
RESULT = "result.json"  # written last
RUN_LOG = "run.log"
OUTPUT_LOG = "output.log"  # what a sweep's job prints
LAST = "checkpoints/last.pt"
PREVIOUS = "checkpoints/previous.pt"
PROBE = "probe.pt"  # the maps that the run was judged with
PLOTS = "plots"
LOCK = ".lock"  # locked while a process works in the folder
LEASE = ".lease"  # locked while a sweep's job runs; says who runs it
MOVED_ASIDE = "moved_aside.json"  # in a folder whose run made way for another
MOVING = ".moving_aside"  # is there while a run is moved aside; holds the name of the folder that it goes to

CHECKPOINTS = (LAST, PREVIOUS)
RUN_FILES = (CONFIG, OVERRIDES, RESULT, METRICS, RUN_LOG)
RUN_FOLDERS = ("checkpoints", PLOTS)
CLAIMS = (LOCK, LEASE)  # they stay where they are when a run is moved aside

# --- a sweep ---------------------------------------------------------------------------------------------------------

SWEEP = "sweep.json"  # the jobs' names and order
JOURNAL = "study.journal"  # a search's trials
STUDY = ".study.json"  # the study's name and the folder's identity, which move with the folder
STUDY_LOCK = ".study.lock"  # locked while a process asks for trials
SITTINGS = ".sittings"  # a lock and a stop file for each process that works on the sweep

ARCHIVE = "archive.jsonl"  # the results of a study in one file, instead of the runs' folders

SWEEP_FILES = (SWEEP, JOURNAL, STUDY_LOCK, STUDY)
SWEEP_FOLDERS = (SITTINGS,)


def version(path: PathLike) -> int | None:
    """What tells a file from one that replaces it: when it was written, in nanoseconds; None without a file."""
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return None


def free_name(path: Path) -> Path:
    """``path`` with the first number that no sibling has: ``<path>.1``, ``<path>.2``, ..."""
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.{number}")):
        number += 1
    return path.with_name(f"{path.name}.{number}")
