"""The operational keys: they set how a run is executed. Imports nothing, so that ``jepa.results`` needs no Hydra."""

from __future__ import annotations

# Keys that set how a run is executed, not what it computes. Two runs that differ only in these keys have the same hash.
OPERATIONAL_KEYS = frozenset(
    {
        "checkpoint",
        "choices",
        "benchmark",  # the group sets other keys; its name alone changes nothing
        "device",
        "dry_run",
        "extensions",
        "folder",
        "hydra",
        "left_out",  # names the term whose coefficient another key sets to 0
        "logger",
        "objective",
        "on_probe",
        "plots",
        "progress",
        "rerun",
        "resume",
        "retry_failed",
        "reuse",
        "scale",  # the group sets other keys; its name alone changes nothing
        "sweep",
        "threads",
        "yes",
    }
)
OPERATIONAL_NESTED_KEYS = frozenset(
    {
        "trainer.compile",
        "trainer.cuda_graph",
        "trainer.kernels",  # the same mathematics with other rounding, as on another device
        "trainer.log_every_steps",
        "trainer.probe_every_epochs",
        "trainer.warmup_epochs",  # enters the hash as optimizer.schedule.warmup_epochs
        "dataset.cifar10_folder",  # the folder does not change the images
        "dataset.texture.folder",
    }
)

# Operational keys that name what other keys of the science set. Tables and figures show them.
NAMING_KEYS = frozenset({"benchmark", "left_out", "scale"})

# Keys that later versions added, with the value at which a run is what it was without the key. At this value a key is
# not part of the hash, so that runs of earlier versions keep their hash.
NEUTRAL_VALUES: dict[str, object] = {
    "model.input": "frames",
    "plan": None,
    "probe.judge_stream": "test",
    "dataset.eval": {},
}

# Top-level keys that control the sweep itself. Jobs do not receive them.
CONTROL_KEYS = ("sweep", "dry_run", "yes", "retry_failed", "reuse")


def top(key: str) -> str:
    """The first part of a key or group: ``dataset`` of ``+dataset.noise``."""
    return key.lstrip("+~").replace("/", ".").replace("@", ".").split(".")[0]


def says_how(key: str) -> bool:
    """Whether a key sets only how a run is executed. Jobs that differ only in such keys are the same job."""
    bare = key.lstrip("+~")
    if bare in NAMING_KEYS or bare == "trainer.warmup_epochs":  # these set or name keys that change the science
        return False
    return top(key) in OPERATIONAL_KEYS or bare in OPERATIONAL_NESTED_KEYS
