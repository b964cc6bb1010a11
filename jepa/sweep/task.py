"""A job as a launcher runs it: the task function, and what isolates one job's failure from the others.

An exception becomes a recorded failure. A signal becomes an interruption that leaves the checkpoint. Where the launcher
allows it, a job runs in a child process of its worker, so that even SIGKILL harms no other job.
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
import warnings
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
from jepa.sweep.jobs import objective_of
from jepa.sweep.sitting import Sitting

POLL_S = 0.3  # how often a running job looks whether it should stop
INSIST_S = 60.0  # a job that has not stopped by then is told a second time, which ends it at once
_IN_PROCESS = threading.Event()  # a job is running inside the sweep's own process


def job_in_this_process() -> bool:
    """Whether a job runs inside the sweep's own process right now (the basic launcher's way)."""
    return _IN_PROCESS.is_set()


@dataclass(frozen=True)
class JobTask:
    """What the launcher calls instead of the task function. It can be pickled, and a job that fails raises nothing."""

    task: Callable[[DictConfig], Any]
    home: str | None  # "module:name", to import the task in a worker; None: it is pickled as it is
    sitting: Sitting
    isolate: bool  # run each job in a child of its worker
    tied: bool  # jobs stop when the sitting dies; on a cluster they go on
    num_workers: int  # jobs side by side on one machine, for dealing GPUs; 0: the launcher deals them
    extras: dict[str, dict[str, Any]]  # by job hash: operational keys to set, which no override needs to show

    def __call__(self, cfg: DictConfig) -> str:
        """Run one job in the folder Hydra has chosen.

        Returns:
            ``finished``, ``failed``, ``interrupted``, ``busy`` (another process runs it) or ``killed``. What counts are
            the files of the folder.
        """
        folder = Path(HydraConfig.get().runtime.output_dir)
        if self.tied and self.sitting.is_dead():
            os._exit(1)  # the sweep is gone: the jobs in the queue of this worker must not start
        if self.sitting.stop_file.exists():
            return "interrupted"
        if self.isolate and not self.sitting.is_here():
            return self._in_child(cfg, folder)
        return self._alone(cfg, folder)

    def __getstate__(self) -> dict[str, Any]:
        """Refer to the task by its name where that is known: the worker imports its own copy."""
        return {**self.__dict__, "task": None} if self.home else dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a worker ready: the task, and the resolvers that its configuration needs."""
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
        """Fork, run the job there, and say how it ended."""
        _warm_up()
        child = forked()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.setpgid(0, 0)  # the terminal's Ctrl-C is for the sweep, which passes it on
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
        """Take the folder's lease and run the task under it."""
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
        """``cfg`` with the operational keys that the sweep has for this job."""
        with open_dict(cfg):
            for key, value in self.extras.get(job_hash, {}).items():
                OmegaConf.update(cfg, key, value, merge=False)
        return cfg

    def _guarded(self, cfg: DictConfig, folder: Path, job_hash: str, here: bool) -> str:
        """Run the task, and record its failure."""

        def failed(error: str, story: str = "") -> str:
            overrides = list(HydraConfig.get().overrides.task)
            records.write_failure(folder, job_hash=job_hash, error=error, overrides=overrides, traceback=story)
            return "failed"

        value = None
        try:
            value = self.task(cfg)
        except (KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, SystemExit) and stop.code == -1:
                raise  # the scheduler takes the job back into its queue
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
        """Show the job one GPU, where there are several."""
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
        """Keep a running job's lease fresh. In a worker, send SIGTERM when the sitting wants to stop or is dead."""
        over = threading.Event()
        parent = os.getppid()
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread() and not here:
            previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
            # A scheduler's word that the time is up: save the checkpoint; the sweep submits the job again.
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


def forked() -> int:
    """``os.fork`` without what is still to be printed, which would be printed twice."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: this process has none that hold locks
        return os.fork()


def locate(task: Callable[[DictConfig], Any]) -> str | None:
    """Where a worker can import ``task`` from, as ``module:name``; None for a function no import reaches.

    A program started as ``python -m package.module`` is called ``__main__`` here and by its own name in a worker.
    """
    module, name = getattr(task, "__module__", None), getattr(task, "__qualname__", "")
    if module is None or _unwrapped(getattr(sys.modules.get(module), name, None)) is not _unwrapped(task):
        return None
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = getattr(spec, "name", None)
    return f"{module}:{name}" if module else None


def _unwrapped(function: Any) -> Any:
    """The task inside what ``hydra.main`` made of it."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _asks_to_stop(stop: BaseException) -> bool:
    return isinstance(stop, KeyboardInterrupt) or (isinstance(stop, SystemExit) and stop.code in (130, 143))


def _die_with_parent() -> None:
    """Ask Linux to end this worker when the process that started it is gone; elsewhere it ends when it falls idle."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _outlive_terminal() -> None:
    """Ignore the signal of a closed terminal: the sweep gets it too, and tells the jobs to save and stop."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _warm_up() -> None:
    """Import what every job needs once in each worker: its children inherit it."""
    if "torch" not in sys.modules and "jepa.run" in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("jepa.training.loop")


def _say_into(path: Path) -> None:
    """Send what a job prints to a file: the screen belongs to the sweep."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _pass_on(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
