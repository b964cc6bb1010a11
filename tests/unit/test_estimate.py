"""The estimate of the time left, against sweeps and runs that are played on a simulated clock."""

from __future__ import annotations

import json
import math
import os
import signal
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from jepa.data.textures.cifar10 import OFFLINE
from jepa.estimate import PLOTS_S, Costs, Running, Workload, clock, makespan, packs, running_seconds
from jepa.loggers.display import RunTimer
from jepa.store import locks
from jepa.store.result import write_result
from jepa.sweep import calibrate, report
from jepa.sweep.execution import LauncherKind
from jepa.sweep.jobs import Job, kind_of
from jepa.sweep.overview import Overview, estimate_seconds, measured

START = 1_700_000_000.0
WORKLOAD = Workload(sequences=3000.0, record_sequences=50.0, probes=1, probe_sequences=1000.0, plots=False)
PER_SEQUENCE = {"vicreg": 0.01, "rssm": 0.03}  # seconds, of a run alone
JUDGING_S = {"vicreg": 12.0, "rssm": 20.0}  # of a run; four times and twice what the probe's settings let expect


def judging(jobs: list[Job]) -> float:
    return sum(JUDGING_S[job.model] for job in jobs)


@dataclass
class Play:
    """Jobs that are played: the files that they would have written by a given time."""

    folder: Path
    models: list[str]
    workers: int
    pack: int

    def __post_init__(self) -> None:
        self.now = START
        self.jobs = [
            Job(f"job{i:03}", [], f"job {i}", self.folder / f"job{i:03}", model, WORKLOAD, 10.0)
            for i, model in enumerate(self.models)
        ]
        self.held: dict[str, locks.Lease] = {}
        self.programs: list[tuple[list[Job], float, float]] = []  # jobs, start, training time of the whole
        free = [START] * self.workers
        for first in range(0, len(self.jobs), self.pack):
            jobs = self.jobs[first : first + self.pack]
            worker = free.index(min(free))
            training = sum(3000.0 * PER_SEQUENCE[job.model] for job in jobs)
            self.programs.append((jobs, free[worker], training))
            free[worker] += training + judging(jobs)
        self.end = max(free)

    def at(self, seconds: float) -> None:
        """Write what is there ``seconds`` after the start."""
        self.now = START + seconds
        for number, (jobs, start, training) in enumerate(self.programs):
            for job in jobs if self.now >= start else []:
                if self.now >= start + training + judging(jobs):
                    self._finish(job, start, training, judging(jobs), len(jobs))
                elif not (job.folder / "result.json").exists():
                    self._train(job, number, start, training, len(jobs))

    def _train(self, job: Job, number: int, start: float, training: float, size: int) -> None:
        if job.hash not in self.held:
            held = locks.Lease.take(job.folder, {})
            assert held is not None
            held.write({"host": os.uname().nodename, "pid": 1 + number, "started": start})
            self.held[job.hash] = held
        step = math.floor(60 * min(1.0, (self.now - start) / training))  # 60 records of 50 sequences
        lines = [
            json.dumps({"step": i, "kind": "train", "epoch": i / 6, "time_s": i * training / 60 / size}) + "\n"
            for i in range(1, step + 1)
        ]
        if lines:
            (job.folder / "metrics.jsonl").write_text("".join(lines))
            os.utime(job.folder / "metrics.jsonl", (self.now, start + step * training / 60))

    def _finish(self, job: Job, start: float, training: float, judging: float, size: int) -> None:
        if (job.folder / "result.json").exists():
            return
        if job.hash in self.held:
            self.held.pop(job.hash).release()
        job.folder.mkdir(exist_ok=True)
        times = {"started": start, "finished": start + training + judging}
        result: dict[str, Any] = {
            "status": "finished",
            "objective": 1.0,
            "metrics": {"train_seconds": training / size},
            "pack": {"size": size},
            "config_hash": job.hash,
            **{key: datetime.fromtimestamp(value, timezone.utc).isoformat() for key, value in times.items()},
        }
        (job.folder / "result.json").write_text(json.dumps(result))

    def close(self) -> None:
        for held in self.held.values():
            held.release()


def estimates(play: Play, every_s: float) -> list[tuple[float, float | None]]:
    """(time left, estimate) at intervals from the start to the end."""
    overview = Overview(parallel=play.workers, now=lambda: play.now)
    overview.add(play.jobs)
    found = []
    with closing(play):
        for number in range(int((play.end - START) / every_s)):
            play.at(number * every_s)
            overview.look()
            found.append((play.end - play.now, overview.seconds_left(overview.running())))
    return found


@pytest.mark.parametrize(
    ("models", "workers", "pack"),
    [
        (["vicreg"] * 4, 1, 1),
        (["vicreg"] * 7, 3, 1),
        (["rssm", "vicreg"] * 3, 2, 1),
        (["vicreg"] * 10, 1, 4),
        (["vicreg"] * 32, 2, 8),
    ],
    ids=["one by one", "more workers", "two models", "packs", "packs side by side"],
)
def test_the_estimate_is_near_and_moves_every_second(
    tmp_path: Path, models: list[str], workers: int, pack: int
) -> None:
    play = Play(tmp_path, models, workers, pack)
    whole = play.end - START
    found = estimates(play, whole / 60)
    # After the first records rates are known; what judging takes is known once a job of each model has ended.
    ends = {jobs[0].model: start + training + judging(jobs) for jobs, start, training in reversed(play.programs)}
    measured_at = max(ends.values()) - START
    unknown = [left for left, estimate in found if estimate is None]
    assert all(left > 0.9 * whole for left in unknown)
    for left, estimate in found[len(unknown) :]:
        assert estimate is not None
        share = 0.06 if whole - left > measured_at + 1 else 0.35
        assert abs(estimate - left) < share * whole, (whole - left, left, estimate)
    shown = [estimate for _, estimate in found if estimate is not None]
    # It stands still only where the first judging takes longer than the probe's settings let expect.
    assert sum(later < earlier for earlier, later in zip(shown, shown[1:], strict=False)) > 0.8 * len(shown)


def test_a_pack_takes_as_long_as_its_jobs_together(tmp_path: Path) -> None:
    play = Play(tmp_path, ["vicreg"] * 8, 1, 8)
    overview = Overview(parallel=1, now=lambda: play.now)
    overview.add(play.jobs)
    with closing(play):
        play.at(120.0)  # of 240 s of training
        left = overview.seconds_left(overview.running())
    assert left is not None and left > 120.0


def test_training_that_was_not_recorded_is_not_assumed() -> None:
    run = Running("vicreg", WORKLOAD, started=0.0, recorded=100.0, share=0.5, per_sequence=0.01)
    costs = Costs([])
    judging = WORKLOAD.judging(0.01, 1)
    assert running_seconds([run], costs, now=100.0) == pytest.approx(15.0 + judging)
    assert running_seconds([run], costs, now=100.25) == pytest.approx(14.75 + judging)
    hours_later = running_seconds([run], costs, now=10_000.0)
    assert hours_later == pytest.approx(14.5 + judging)  # less one interval between records
    assert running_seconds([Running("new", WORKLOAD, 0.0, None, 0.0, None)], costs, now=1.0) is None


def test_pruned_trials_shorten_the_estimate(tmp_path: Path) -> None:
    jobs = {name: Job(name, [], name, tmp_path / name, "vicreg", WORKLOAD, 10.0) for name in "abc"}
    whole = {"status": "finished", "metrics": {"train_seconds": 30.0}, "epochs_trained": 10, "epochs_total": 10}
    pruned = {"status": "pruned", "metrics": {"train_seconds": 6.0}, "epochs_trained": 2, "epochs_total": 10}
    results = {"a": whole, "b": pruned}
    alone = estimate_seconds([jobs["c"]], {"a": whole}, jobs, 1)
    both = estimate_seconds([jobs["c"]], results, jobs, 1)
    assert alone is not None and both is not None
    assert alone == pytest.approx(30.0 + WORKLOAD.judging(0.01, 1))
    assert both == pytest.approx(18.0 + WORKLOAD.judging(0.01, 1))


def test_a_dry_run_may_bring_rates_of_its_own(tmp_path: Path) -> None:
    job = Job("a", [], "a", tmp_path / "a", "vicreg", WORKLOAD, 10.0)
    assert estimate_seconds([job], {}, {}, 1) is None
    found = estimate_seconds([job] * 4, {}, {}, 2, measured={"vicreg": 0.02})
    assert found == pytest.approx(2 * (60.0 + WORKLOAD.judging(0.02, 1)))


def test_every_method_has_its_own_rate_and_a_long_sweep_is_told_its_core_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workload(sequences=360_000.0)
    jobs = [Job(model, [], model, tmp_path / model, model, work, 1.0) for model in PER_SEQUENCE]
    monkeypatch.setattr(report, "seconds_per_sequence", lambda configs, threads: {k: PER_SEQUENCE[k] for k in configs})
    monkeypatch.setattr(report.devices, "threads_per_job", lambda parallel: 2)
    monkeypatch.setattr(report.devices, "visible_gpus", list)
    kind = LauncherKind("basic", 1, isolate=False, tied=True, deals_gpus=False)
    configs = {name: OmegaConf.create() for name in PER_SEQUENCE}
    report.before_start(jobs, folder=tmp_path, kind=kind, reuse=[], configs=configs)  # an hour and three, on two cores
    said = capsys.readouterr().out
    assert said == (
        "time: about 4:00:00, 8 core-hours, for the 2 jobs left, from a few steps of rssm, vicreg just now\n"
    )
    long = [replace(jobs[0], workload=Workload(sequences=720_000.0))]
    report.before_start(long, folder=tmp_path, kind=kind, reuse=[], configs=configs)
    assert " for the 1 job left, from a few steps of vicreg just now\n" in capsys.readouterr().out
    short = [replace(job, workload=Workload(sequences=1000.0)) for job in jobs]
    report.before_start(short, folder=tmp_path, kind=kind, reuse=[], configs=configs)
    assert capsys.readouterr().out == "", "nothing is timed before a short sweep"
    for job in jobs:
        write_result(tmp_path / "earlier" / job.hash, {"status": "finished", "objective": 1.0, "metrics": {}})
    report.before_start(jobs, folder=tmp_path, kind=kind, reuse=[str(tmp_path / "earlier")], configs=configs)
    assert capsys.readouterr().out == "", "results that will be taken over need no time"


def test_runs_of_another_scale_say_nothing_of_this_one() -> None:
    assert kind_of({"model": "rssm"}) == "rssm" and kind_of({"model": "rssm", "scale": "small"}) == "rssm (small)"


def test_results_of_other_sweeps_carry_their_workload(tmp_path: Path) -> None:
    config = {
        "trainer": {"epochs": 4, "log_every_steps": 10, "probe_every_epochs": 2},
        "dataset": {"size": 100, "batch_size": 5},
        "probe": {"fit_sequences": 30, "judge_sequences": 20},
        "plots": True,
    }
    (tmp_path / "abc").mkdir()
    result = {"status": "finished", "objective": 1.0, "config": config, "choices": {"model": "idm"}, "metrics": {}}
    (tmp_path / "abc" / "result.json").write_text(json.dumps(result))
    _, jobs = measured([tmp_path])
    assert jobs["abc"].workload == Workload(400.0, 50.0, 2, 50.0, plots=True)
    assert jobs["abc"].model == "idm"


def test_free_workers_take_what_waits() -> None:
    assert makespan([], [], 2) == 0.0
    assert makespan([5.0], [3.0, 3.0], 2) == 6.0
    assert makespan([5.0, 1.0, 1.0], [3.0], 1) == 5.0  # more at work than there are workers here
    assert packs([1.0, 2.0, 3.0], 2) == [3.0, 3.0]
    assert [clock(seconds) for seconds in (0.4, 61, 3599.7, 3723)] == ["0:00", "1:01", "1:00:00", "1:02:03"]


def test_trials_that_a_search_has_still_to_ask_for_are_waited_for(tmp_path: Path) -> None:
    overview = Overview(parallel=1)
    job = Job("a", [], "a", tmp_path / "a", "vicreg", WORKLOAD, 10.0)
    overview.add([job])
    overview.expect(5)
    job.folder.mkdir()
    result = {"status": "finished", "objective": 1.0, "metrics": {"train_seconds": 30.0}}
    (job.folder / "result.json").write_text(json.dumps(result))
    overview.look()
    assert overview.summary([]).startswith("1 of 5 done · 0 running · 4 waiting")
    assert overview.seconds_left([]) == pytest.approx(4 * (30.0 + WORKLOAD.judging(0.01, 1)))


# --- one run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe_every", [0, 2])
@pytest.mark.parametrize("resumed_at", [0, 30])
def test_a_runs_estimate_holds_training_judging_and_plots(probe_every: int, resumed_at: int) -> None:
    """Sixty steps of half a second, in six epochs; a probe takes 6 s, and the settings let expect 3 s."""
    workload = Workload(3000.0, 50.0, 1 + (2 if probe_every else 0), 1000.0, plots=True)
    timer, now, events = RunTimer(workload, resumed_at, 60, START), START, list[tuple[float, dict[str, Any]]]()
    for step in range(resumed_at + 1, 61):
        now += 0.5
        rate = {"kind": "train", "step": step, "time_s": 0.5 * step, "sequences_per_second": 100.0}
        events.append((now, rate))
        if step == 60 or (probe_every and step % (10 * probe_every) == 0):
            now += 6.0
            events.append((now, {"kind": "probe", "step": step, "time_s": 0.5 * step}))
    end = now + PLOTS_S
    found = []
    for tick in range(int(2 * (end - START))):
        clock_now = START + tick / 2
        while events and events[0][0] <= clock_now:
            timer.record(events[0][1], events[0][0])
            events.pop(0)
        found.append((end - clock_now, timer.seconds_left(clock_now)))
    assert found[0][1] is None and None not in [estimate for _, estimate in found[2:]]
    whole = end - START
    for left, estimate in found[2:]:
        judged = probe_every and left < whole - (16.0 if resumed_at == 0 else 11.0)  # the first probe is over
        assert estimate is not None and abs(estimate - left) < (0.06 if judged else 0.25) * whole
        assert estimate >= 0.0 and (left > PLOTS_S or estimate <= PLOTS_S)


def test_the_probes_that_are_left_are_counted() -> None:
    workload = Workload(3000.0, 50.0, 3, 1000.0, plots=False)
    shares = [0.0, 0.1, 1 / 3, 0.34, 2 / 3, 0.99, 1.0]
    assert [workload.probes_after(share) for share in shares] == [3, 3, 3, 2, 2, 1, 1]
    assert [workload.probes_by(share) for share in shares] == [1, 1, 1, 1, 2, 3, 3]


def test_a_run_that_trains_nothing_has_no_estimate() -> None:
    assert RunTimer(WORKLOAD, 0, 0, START).seconds_left(START + 5.0) is None


def test_steps_are_timed_in_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU they initialise CUDA, which the sweep's own forked workers could not use afterwards."""
    monkeypatch.setattr(calibrate, "_measured", lambda config, threads: os.getpid())
    found = calibrate.seconds_per_sequence({"vicreg": OmegaConf.create()}, threads=1)
    assert found.keys() == {"vicreg"} and found["vicreg"] != os.getpid()


def test_nothing_is_downloaded_to_time_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_measured", lambda config, threads: float(os.environ[OFFLINE]))
    assert calibrate.seconds_per_sequence({"vicreg": OmegaConf.create()}, threads=1) == {"vicreg": 1.0}
    assert OFFLINE not in os.environ


def test_a_model_that_cannot_be_tried_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(config: DictConfig, threads: int) -> float:
        if threads == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no such model")

    monkeypatch.setattr(calibrate, "_measured", measured)
    for threads in (1, 2):
        assert calibrate.seconds_per_sequence({"vicreg": OmegaConf.create()}, threads=threads) == {}
