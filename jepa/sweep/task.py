"""The function that a launcher calls for a job. It isolates one job's failure from the other jobs.

An exception is recorded as a failed result. A signal interrupts the job, which saves its checkpoint. If the launcher
allows it, a job runs in a child process of its worker, so that SIGKILL of a job affects no other job.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from jepa.config.compose import scientific_config
from jepa.store import layout, locks
from jepa.store.layout import RESULT
from jepa.store.result import DONE
from jepa.sweep import devices, folders, records
from jepa.sweep.child import forked
from jepa.sweep.jobs import objective_of
from jepa.sweep.sitting import Sitting

POLL_S = 0.3  # how often a running job checks whether to stop
INSIST_S = 60.0  # a job that still runs after this time gets a second signal, which ends it at once
_IN_PROCESS = threading.Event()  # a job is running inside the sweep's own process


def job_in_this_process() -> bool:
    """Whether a job runs in the sweep's own process right now, as with the basic launcher."""
    return _IN_PROCESS.is_set()


@dataclass(frozen=True)
class JobTask:
    """The callable that the launcher gets instead of the task function. It can be pickled. Failed jobs do not raise."""

    task: Callable[[DictConfig], Any]
    home: str | None  # "module:name", to import the task in a worker; None: the task itself is pickled
    sitting: Sitting
    isolate: bool  # run each job in a child of its worker
    tied: bool  # jobs stop when the sitting dies; on a cluster they go on
    num_workers: int  # concurrent jobs on one machine, for assigning GPUs; 0: the launcher assigns them
    extras: dict[str, dict[str, Any]]  # by job hash: operational keys to set, which the overrides do not show

    def __call__(self, cfg: DictConfig) -> str:
        """Run one job in the folder Hydra has chosen.

        Returns:
            ``finished``, ``failed``, ``interrupted``, ``busy`` (another process runs the job) or ``killed``. The sweep
            does not use this value; it reads the files of the folder.
        """
        folder = Path(HydraConfig.get().runtime.output_dir)
        if self.tied and self.sitting.is_dead():
            os._exit(1)  # the sweep has ended: the jobs in this worker's queue must not start
        if self.sitting.stop_file.exists():
            return "interrupted"
        if self.isolate and not self.sitting.is_here():
            return self._in_child(cfg, folder)
        return self._alone(cfg, folder)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the task if ``home`` is known, because the worker imports the task by name."""
        return {**self.__dict__, "task": None} if self.home else dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Prepare a worker: import the task, and register the resolvers that its configuration needs."""
        from jepa.config.compose import register

        register()
        if state["home"]:
            module, _, name = state["home"].partition(":")
            state["task"] = _unwrapped(getattr(importlib.import_module(module), name))
        self.__dict__.update(state)
        if self.isolate:
            _die_with_parent()
            _outlive_terminal()

    def _in_child(self, cfg: DictConfig, folder: Path) -> str:
        """Run the job in a forked child process. Returns its outcome, as :meth:`__call__` does."""
        _warm_up()
        child = forked()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.setpgid(0, 0)  # Ctrl-C in the terminal reaches only the sweep, which stops its jobs
                _say_into(folder / layout.OUTPUT_LOG)
                outcome = replace(self, isolate=False)._alone(cfg, folder)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(_CODES.get(outcome, 1))
            os._exit(1)
        try:
            _, ended = os.waitpid(child, 0)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            raise
        code = os.waitstatus_to_exitcode(ended)
        return next((name for name, number in _CODES.items() if number == code), "killed")

    def _alone(self, cfg: DictConfig, folder: Path) -> str:
        """Take the lease of ``folder``, then run the job in this process."""
        here = self.sitting.is_here()
        held = locks.Lease.take(folder, {"sitting": self.sitting.name})
        if held is None:
            return "busy"
        job_hash, metric = folder.name, objective_of(cfg)
        try:
            if records.done_result(folder, job_hash, metric) is not None and not OmegaConf.select(cfg, "rerun"):
                return "finished"
            folders.make_way(folder, metric, scientific_config(cfg))
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.watched(held, here))
                stack.enter_context(self.gpu(cfg))
                if here:
                    _IN_PROCESS.set()
                    stack.callback(_IN_PROCESS.clear)
                return self._guarded(self.prepared(cfg, job_hash), folder, job_hash, here)
        finally:
            held.release()

    def prepared(self, cfg: DictConfig, job_hash: str) -> DictConfig:
        """Set the operational keys that the sweep has for this job. Changes and returns ``cfg``."""
        with open_dict(cfg):
            for key, value in self.extras.get(job_hash, {}).items():
                OmegaConf.update(cfg, key, value, merge=False)
        return cfg

    def _guarded(self, cfg: DictConfig, folder: Path, job_hash: str, here: bool) -> str:
        """Run the task. Write a failed result if the task raises, exits with an error, or leaves no result."""

        def failed(error: str, story: str = "") -> str:
            overrides = list(HydraConfig.get().overrides.task)
            records.write_failure(folder, job_hash=job_hash, error=error, overrides=overrides, traceback=story)
            return "failed"

        value = None
        try:
            value = self.task(cfg)
        except (KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, SystemExit) and stop.code == -1:
                raise  # the scheduler puts the job back into its queue
            if _asks_to_stop(stop):
                if here:
                    raise KeyboardInterrupt from stop
                return "interrupted"
            assert isinstance(stop, SystemExit)
            if stop.code:
                return failed(f"exit code {stop.code}")
        except Exception as error:  # the other jobs go on
            first = (str(error).strip().splitlines() or [""])[0]
            return failed(f"{type(error).__name__}: {first}", traceback.format_exc())
        result = records.read_result(folder)
        if result is None:
            return failed(f"the task returned {value!r} but left no {RESULT}")
        return "finished" if result["status"] in DONE else "failed"

    @contextlib.contextmanager
    def gpu(self, cfg: DictConfig) -> Iterator[None]:
        """Restrict the job to one GPU if the machine has several."""
        device = str(OmegaConf.select(cfg, "device") or "auto")
        if self.num_workers < 1 or device not in ("auto", "cuda"):
            yield
            return
        places = self.sitting.folder / layout.SITTINGS / f"gpus-{socket.gethostname()}"
        with devices.dealt_gpu(devices.visible_gpus(), self.num_workers, places) as gpu:
            if gpu is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            yield

    @contextlib.contextmanager
    def watched(self, held: locks.Lease | locks.Leases, here: bool) -> Iterator[None]:
        """Touch the lease of a running job regularly. In a worker, send SIGTERM if the sitting stops or is dead."""
        over = threading.Event()
        parent = os.getppid()
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread() and not here:
            previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
            # A scheduler sends SIGUSR2 when the job's time is up: save the checkpoint. The sweep submits the job again.
            previous[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, _pass_on)

        def watch() -> None:
            waited = 0.0
            told_at: float | None = None
            while not over.wait(POLL_S):
                waited += POLL_S
                if waited % locks.HEARTBEAT_S < POLL_S:
                    with contextlib.suppress(OSError):
                        held.touch()
                wanted = not here and self._should_stop(parent)
                if wanted and (told_at is None or waited - told_at > INSIST_S) and not over.is_set():
                    told_at = waited
                    os.kill(os.getpid(), signal.SIGTERM)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _should_stop(self, parent: int) -> bool:
        if self.sitting.stop_file.exists():
            return True
        return self.tied and (os.getppid() != parent or self.sitting.is_dead())


_CODES = {"finished": 0, "failed": 1, "interrupted": 130, "busy": 75}


def locate(task: Callable[[DictConfig], Any]) -> str | None:
    """The name under which a worker can import ``task``, as ``module:name``; None if it cannot be imported.

    In a program started as ``python -m package.module``, the module ``__main__`` is replaced by ``package.module``.
    """
    module, name = getattr(task, "__module__", None), getattr(task, "__qualname__", "")
    if module is None or _unwrapped(getattr(sys.modules.get(module), name, None)) is not _unwrapped(task):
        return None
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = getattr(spec, "name", None)
    return f"{module}:{name}" if module else None


def _unwrapped(function: Any) -> Any:
    """The function that ``hydra.main`` or another decorator wraps."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _asks_to_stop(stop: BaseException) -> bool:
    return isinstance(stop, KeyboardInterrupt) or (isinstance(stop, SystemExit) and stop.code in (130, 143))


def _die_with_parent() -> None:
    """On Linux, end this worker when its parent process dies. On other systems, an idle worker ends by itself."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _outlive_terminal() -> None:
    """Ignore SIGHUP of a closed terminal. The sweep gets the signal too, and tells its jobs to save and stop."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _warm_up() -> None:
    """Import the training code once in each worker, so that its forked children need not import it."""
    if "torch" not in sys.modules and "jepa.run" in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("jepa.training.trainer")


def _say_into(path: Path) -> None:
    """Redirect a job's output to a file, because the screen shows the sweep's display."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _pass_on(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
