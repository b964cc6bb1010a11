"""Real runs, grids and searches that are disturbed, and what they leave compared with undisturbed ones.

A :class:`Scenario` is a command at a small size. A :class:`Place` is a folder where it runs, in processes of a
:class:`Server`. :func:`contents` is everything that must be the same whatever happened on the way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jepa.files import parse_sealed_json
from jepa.store import checkpoint

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
SEED_VARIABLE = "JEPA_TEST_SEED"
PATIENCE_S = 240.0  # for a command of seconds, on a machine that is busy with others
IDLE_S = 2.0  # a process that has used no processor time for so long is at no job
SMALL = [
    *("trainer=quick", "trainer.epochs=2", "trainer.warmup_epochs=1", "trainer.log_every_steps=2"),
    *("dataset.size=64", "dataset.batch_size=16", "dataset.num_steps=5"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=32"),
    *("probe.fit_sequences=100", "probe.judge_sequences=100", "plots=false", "checkpoint.every_epochs=1"),
]
# What differs between two runs of one configuration: times, rates, and where a result comes from.
CLOCK = ("time_s", "sequences_per_second", "train_seconds", "seconds_at_log", "started", "finished")
PROVENANCE = ("folder", "command", "overrides", "versions", "git_commit", "code")
PROVENANCE += ("reused_from", "resumed", "on_probe", "pack", "checksum")


@dataclass(frozen=True)
class Scenario:
    """A command of a couple of seconds; ``jobs`` is the number of results it leaves."""

    name: str
    arguments: tuple[str, ...]
    jobs: int


def _search(*arguments: str, trials: int) -> tuple[str, ...]:
    return (
        *("+sweep=search", "model=vicreg", *SMALL, f"sweep.n_trials={trials}", "sweep.name=swept"),
        *("trainer.probe_every_epochs=1", *arguments),
    )


_MEDIAN = ("sweep.pruner=median", "+sweep.pruner_options.n_startup_trials=2")
_GRID = ("--multirun", *SMALL, "sweep.name=swept")
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("single", tuple(SMALL), 1),
        Scenario("grid", (*_GRID, "seed=1,2,3"), 3),
        Scenario("search", _search(*_MEDIAN, trials=6), 6),
        Scenario("search-plain", _search(trials=4), 4),
        Scenario("search-tpe", _search("sweep.sampler=tpe", *_MEDIAN, trials=4), 4),
        Scenario("packed", (*_GRID, "seed=1,2", "hydra/launcher=packed"), 2),
        Scenario("joblib", (*_GRID, "seed=1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 3),
    )
}


def case_seed() -> int:
    """The seed of this run of a harness, from the environment or a new one; printed, so that a failure shows it."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(10**6))
    print(f"{SEED_VARIABLE}={seed}")
    return seed


# --- processes -----------------------------------------------------------------------------------------------------


class Server:
    """Starts commands as forks of one process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        """folder: for what commands print, and for what makes new interpreters count operations."""
        self.folder = folder
        (folder / "sitecustomize.py").write_text("import file_operations\nfile_operations.join()\n")
        path = os.pathsep.join(map(str, (folder, REPOSITORY, TESTS)))
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "fork_server.py")],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._number = 0
        self._answer()

    def start(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        module: str = "run",
        kill_at: int | None = None,
        kill_leader: bool = False,
        at: float = 0.0,
        environment: Mapping[str, str] | None = None,
    ) -> Command:
        """Fork a command in ``folder``; the other arguments are those of ``fork_server``."""
        self._number += 1
        path = self.folder / str(self._number)
        request = {
            "module": module,
            "arguments": list(arguments),
            "folder": str(folder),
            "out": f"{path}.out",
            "err": f"{path}.err",
            "count_file": f"{path}.count",
            "kill_at": kill_at,
            "kill_leader": kill_leader,
            "at": at,
            "environment": dict(environment or {}),
        }
        return Command(self, self._ask("start", request)["pid"], path, " ".join(arguments))

    def run(self, arguments: Sequence[str], folder: Path, **options: Any) -> Command:
        """Run a command to its end."""
        return self.start(arguments, folder, **options).wait()

    def poll(self, pid: int) -> int | None:
        """The exit code of a command; None while it runs. Asked once after its end."""
        code: int | None = self._ask("poll", pid)["code"]
        return code

    def close(self) -> None:
        """End the server."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def _ask(self, verb: str, value: Any) -> dict[str, Any]:
        print(json.dumps({verb: value}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Command:
    """A command that has been started."""

    server: Server
    pid: int
    path: Path
    words: str
    code: int | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def wait(self, timeout_s: float = PATIENCE_S) -> Command:
        """Wait for its end."""
        while self.code is None:
            self.code = self.server.poll(self.pid)
            self.seconds = time.monotonic() - self.started
            if self.code is None and self.seconds > timeout_s:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"{self.words}: still running after {timeout_s:.0f} s\n{self.said}")
            time.sleep(0.005)
        return self

    def kill(self, pid: int | None = None) -> None:
        """SIGKILL it, or one of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.pid, signal.SIGKILL)

    def processes(self) -> dict[int, int]:
        """Its processes that live, those of its session, with the processor time that each has used, in ticks."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(words[3]) == self.pid and words[0] not in "ZX":
                        found[int(entry.name)] = int(words[11]) + int(words[12])
        return found

    def wait_gone(self, timeout_s: float = 60.0) -> None:
        """Wait until none of its processes is left; one that stays is an orphan.

        Workers of joblib that were never given a job leave after five idle minutes: those are not waited for.
        """
        start = time.monotonic()
        while left := self.processes():
            names = [_command_line(pid) for pid in left]
            waited = time.monotonic() - start
            if waited > 10.0 and all("loky" in name or "resource_tracker" in name for name in names):
                time.sleep(IDLE_S)
                if self.processes() == left:
                    break
            if waited > timeout_s:
                break
            time.sleep(0.02)
        for pid in left:
            self.kill(pid)
        if left and waited > timeout_s:
            raise AssertionError(f"{self.words}: left orphans: {names}\n{self.said}")

    @property
    def operations(self) -> int:
        """How many operations on files it has carried out."""
        return self.path.with_suffix(".count").stat().st_size

    @property
    def out(self) -> str:
        """What it has printed."""
        return self.path.with_suffix(".out").read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has printed to standard error."""
        return self.path.with_suffix(".err").read_text(errors="replace")

    @property
    def said(self) -> str:
        """Everything about it, for a failed assertion."""
        return f"{self.words}\nexit code {self.code}\n{self.out}\n{self.err}"


@dataclass(frozen=True)
class Place:
    """A folder where a scenario runs, from the beginning as often as wanted."""

    server: Server
    folder: Path
    scenario: Scenario

    def clear(self) -> None:
        """Make the folder new."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def run(self, **options: Any) -> Command:
        """The scenario's command, to its end."""
        return self.server.run(self.scenario.arguments, self.folder, **options)

    def start(self, **options: Any) -> Command:
        """The scenario's command, started."""
        return self.server.start(self.scenario.arguments, self.folder, **options)

    def look(self, *options: str) -> Command:
        """Look at what is there; that never fails, whatever has happened."""
        shown = self.server.run(["outputs", *options], self.folder, module="results")
        assert shown.code in (0, 2) and "Traceback" not in shown.said, shown.said
        return shown


@dataclass(frozen=True)
class Undisturbed:
    """What a scenario leaves when nothing happens to it, its number of operations and how long it takes."""

    contents: dict[str, Any]
    files: set[str]
    operations: int
    seconds: float


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def undisturbed(place: Place) -> Undisturbed:
    """Run a scenario alone."""
    place.clear()
    command = place.run()
    assert command.code == 0, command.said
    place.look()
    return Undisturbed(contents(place.folder), files(place.folder), command.operations, command.seconds)


# --- what is left ----------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, Any]:
    """All results, records of metrics, weights and trials below ``folder``, without times and provenance."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("result.json")):
        name = str(path.relative_to(folder))
        found[name] = same(json.loads(path.read_text()))
        records = path.with_name("metrics.jsonl").read_text().splitlines()
        found[f"{name} records"] = [same(json.loads(line)) for line in records]
        last = path.parent / checkpoint.LAST
        if last.exists():
            found[f"{name} checkpoint"] = digests(checkpoint.load(last))
    for path in sorted(folder.rglob("study.journal")):
        found[str(path.relative_to(folder))] = trials(path)
    return found


def metrics(folder: Path) -> dict[str, Any]:
    """By job, the numbers of the results below ``folder`` that are finished."""
    found = {}
    for path in sorted(folder.rglob("result.json")):
        with contextlib.suppress(ValueError, KeyError):
            result = parse_sealed_json(path.read_bytes())  # a damaged one counts as none
            if result["status"] in ("finished", "pruned"):
                found[str(path.parent.relative_to(folder))] = same(result)
    return found


def same(value: Any) -> Any:
    """``value`` without what differs between two runs of one configuration."""
    if isinstance(value, dict):
        return {key: same(item) for key, item in value.items() if key not in (*CLOCK, *PROVENANCE)}
    if isinstance(value, list):
        return [same(item) for item in value]
    return value


def digests(value: Any, name: str = "") -> dict[str, str]:
    """Every number of a checkpoint by its name, tensors as digests of their bytes."""
    if isinstance(value, torch.Tensor):
        data = value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        return {name: f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(data).hexdigest()[:16]}"}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if items is None:
        return {name: repr(value)}
    found: dict[str, str] = {}
    for key, item in items:
        if str(key) not in (*CLOCK, *PROVENANCE):
            found.update(digests(item, f"{name}/{key}"))
    return found


def trials(file: Path) -> list[dict[str, Any]]:
    """The trials of the study in a journal or a database, in order: their parameters, end, value and reports."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: Any
    if file.suffix == ".db":
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    else:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    study = optuna.load_study(study_name=None, storage=storage)
    found = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "values": trial.values,
            "params": trial.params,
            "reports": trial.intermediate_values,
            "job": trial.user_attrs.get("job"),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    if file.suffix == ".db":
        storage.engine.dispose()  # a connection left open is a warning, and warnings are errors here
    return found


def files(folder: Path) -> set[str]:
    """The names of everything below ``folder`` that stays."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def finished_results(folder: Path) -> dict[str, bytes]:
    """By path, the results that are finished."""
    found = {}
    for path in folder.rglob("result.json"):
        data = path.read_bytes()
        if json.loads(data)["status"] in ("finished", "pruned"):
            found[str(path.relative_to(folder))] = data
    return found


def differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """Where two contents differ, one line each."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lines = []
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in ours or key not in theirs:
                lines.append(f"{name}/{key}: only {'here' if key in ours else 'undisturbed'}")
            else:
                lines += differences(ours[key], theirs[key], f"{name}/{key}")
        return lines
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            line
            for index, pair in enumerate(zip(ours, theirs, strict=True))
            for line in differences(*pair, f"{name}/{index}")
        ]
    return [] if ours == theirs else [f"{name}: {ours!r} here, {theirs!r} undisturbed"]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server for as long as it is wanted."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.close()
