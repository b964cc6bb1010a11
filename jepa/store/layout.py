"""The names of all files of a run and of a sweep. Every other module imports them.

A run's folder holds its configuration, its records and its result. A sweep's folder holds a few files of its own, and
one folder for each job, named by the hash of the job's configuration.
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
OUTPUT_LOG = "output.log"  # the printed output of a sweep's job
LAST = "checkpoints/last.pt"
PREVIOUS = "checkpoints/previous.pt"
PROBE = "probe.pt"  # the fitted probes that judged the run
PLANNING = "planning.json"  # what python -m jepa.plan found, by planner
PLOTS = "plots"
LOCK = ".lock"  # locked while a process works in the folder
LEASE = ".lease"  # locked while a sweep's job runs; names the process that runs the job
MOVED_ASIDE = "moved_aside.json"  # marks a folder with a run that was moved aside
MOVING = ".moving_aside"  # exists while a run is moved aside; holds the name of the target folder

CHECKPOINTS = (LAST, PREVIOUS)
RUN_FILES = (CONFIG, OVERRIDES, RESULT, METRICS, RUN_LOG)
RUN_FOLDERS = ("checkpoints", PLOTS)
CLAIMS = (LOCK, LEASE)  # these files stay in place when a run is moved aside

# --- a sweep ---------------------------------------------------------------------------------------------------------

SWEEP = "sweep.json"  # the jobs' names and order
JOURNAL = "study.journal"  # a search's trials
STUDY = ".study.json"  # the study's name and the folder's identity, both kept when the folder moves
STUDY_LOCK = ".study.lock"  # locked while a process asks for trials
SITTINGS = ".sittings"  # a lock and a stop file for each process that works on the sweep

ARCHIVE = "archive.jsonl"  # the results of a study in one file, which replaces the runs' folders

SWEEP_FILES = (SWEEP, JOURNAL, STUDY_LOCK, STUDY)
SWEEP_FOLDERS = (SITTINGS,)


def version(path: PathLike) -> int | None:
    """The file's modification time in nanoseconds, which changes when the file is replaced; None without a file."""
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return None


def free_name(path: Path) -> Path:
    """The first unused name of ``<path>.1``, ``<path>.2``, ..."""
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.{number}")):
        number += 1
    return path.with_name(f"{path.name}.{number}")
