"""Which keys only say how a run is carried out. Imports nothing: what reads results needs to know it without Hydra."""

from __future__ import annotations

# Keys that decide how a run is carried out, not what it computes: two runs that differ in them alone have one hash.
OPERATIONAL_KEYS = frozenset(
    {
        "checkpoint",
        "choices",
        "device",
        "dry_run",
        "extensions",
        "folder",
        "hydra",
        "logger",
        "objective",
        "on_probe",
        "plots",
        "progress",
        "rerun",
        "resume",
        "retry_failed",
        "reuse",
        "sweep",
        "threads",
        "yes",
    }
)
OPERATIONAL_NESTED_KEYS = frozenset(
    {
        "trainer.compile",
        "trainer.cuda_graph",
        "trainer.kernels",  # the same mathematics, rounded otherwise, as on another device
        "trainer.log_every_steps",
        "trainer.probe_every_epochs",
        "trainer.warmup_epochs",  # counts where a schedule reads it: as optimizer.schedule.warmup_epochs
        "dataset.cifar10_folder",  # the same images wherever they lie
        "dataset.texture.folder",
    }
)

# Keys of the top level that steer a sweep itself; no job is given them.
CONTROL_KEYS = ("sweep", "dry_run", "yes", "retry_failed", "reuse")


def top(key: str) -> str:
    """The first part of a key or group: ``dataset`` of ``+dataset.noise``."""
    return key.lstrip("+~").replace("/", ".").replace("@", ".").split(".")[0]


def says_how(key: str) -> bool:
    """Whether a key says how a run is carried out, so that jobs which differ in it alone are one job."""
    bare = key.lstrip("+~")
    if bare == "trainer.warmup_epochs":  # read by a schedule, under whose name it counts
        return False
    return top(key) in OPERATIONAL_KEYS or bare in OPERATIONAL_NESTED_KEYS
