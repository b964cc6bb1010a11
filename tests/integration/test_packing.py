"""Packed jobs against the same jobs alone: results, folders, failures, interruptions, and the launcher."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from jepa.config.compose import compose, register
from jepa.data.stream import Stream
from jepa.kernels import folded_norm
from jepa.methods.base import Method
from jepa.packing.executors import MEASURED
from jepa.packing.pack import PackFailed, PackOptions, automatic_pack_size, bytes_per_job, group, run_pack
from jepa.packing.program import EXECUTORS
from jepa.packing.streams import JobStreams
from jepa.packing.trainer import PackTrainer
from jepa.prepare import make_loggers, make_plan
from jepa.run import run
from jepa.store import checkpoint
from jepa.sweep import packed as packed_launcher
from jepa.sweep import packed_core
from jepa.training import loop, runtime
from jepa.training.plan import Plan
from jepa.training.program import Program
from jepa.training.trainer import Trainer
from jepa.types import Losses

TINY = [
    "dataset.size=24",
    "dataset.batch_size=8",
    "dataset.num_steps=5",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "trainer.log_every_steps=2",
    "trainer.probe_every_epochs=1",
    "checkpoint.every_epochs=1",
    "probe.fit_sequences=192",  # from a few dozen a probe of 16 numbers multiplies their rounding
    "probe.judge_sequences=40",
    "progress=none",
    "plots=false",
]
# What may differ between jobs of one pack, for each model.
NUMBERS: dict[str, Callable[[int], list[str]]] = {
    "vicreg": lambda job: [
        f"model.sim_coeff={20 + job}",
        f"model.std_coeff={9 + job}",
        f"optimizer.base_lr={0.5 + job}",
    ],
    "simclr": lambda job: [f"model.temperature={1 + job}", f"optimizer.weight_decay={1e-6 * (1 + job)}"],
    "idm": lambda job: [f"model.action_coeff={0.1 + job}"],
    # Rates of the published size: Adam turns a gradient that is nothing but rounding into a step of the rate's size, so
    # that sums taken in another order drive two runs apart in proportion to it.
    "rssm": lambda job: [f"model.min_var={0.02 + 0.02 * job}", f"optimizer.base_lr={3e-4 * (1 + job / 4)}"],
    "supervised": lambda job: [f"optimizer.base_lr={1e-3 * (1 + job / 4)}"],
}
CLOCK = {"time_s", "sequences_per_second", "train_seconds"}
VMAP = PackOptions(None, "vmap", False)
# Rounding in another order, amplified by training: 5e-4 of a loss or of an error in pixels over these runs.
RTOL = 5e-4


def plan(folder: Path, *overrides: str) -> Plan:
    register()
    return make_plan(compose([*TINY, f"folder={folder}", *overrides], with_hydra=True))


def trainer_of(plans: list[Plan], executor: str = "vmap") -> Trainer | PackTrainer:
    """The trainer of one run, or of a pack."""
    loggers = [make_loggers(one) for one in plans]
    if len(plans) == 1:
        return Trainer(plans[0], loggers=loggers[0])
    return PackTrainer(plans, loggers=loggers, executor=executor)


def losses_of(trainer: Trainer | PackTrainer) -> list[dict[str, float]]:
    """The means of each job's losses since the last call."""
    if isinstance(trainer, Trainer):
        return [trainer.tally.take()]
    means = trainer.tally.take_means()
    assert means is not None
    return [dict(zip(trainer.tally.names, row, strict=True)) for row in means.tolist()]


def overrides_of(model: str, job: int) -> list[str]:
    return [f"model={model}", f"seed={job}", f"dataset.static_noise={0.5 * job}", *NUMBERS[model](job)]


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def assert_metrics_agree(packed: Path, alone: Path, rtol: float = RTOL) -> None:
    ours, theirs = result(packed)["metrics"], result(alone)["metrics"]
    assert ours.keys() == theirs.keys()
    for name in theirs.keys() - CLOCK:
        assert ours[name] == pytest.approx(theirs[name], rel=rtol), name
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (packed, alone)]
    for one, other in zip(*lines, strict=True):
        left, right = ({k: v for k, v in json.loads(line).items() if k not in CLOCK} for line in (one, other))
        assert left.pop("kind") == right.pop("kind")
        assert left == pytest.approx(right, rel=rtol)


def packed_and_alone(model: str, num_jobs: int, options: PackOptions, folder: Path) -> None:
    jobs = range(num_jobs)
    run_pack([plan(folder / f"packed{job}", *overrides_of(model, job)) for job in jobs], options)
    for job in jobs:
        run_pack([plan(folder / f"alone{job}", *overrides_of(model, job))], options)


@pytest.mark.parametrize("executor", ["vmap", "mixed"])
@pytest.mark.parametrize("model", sorted(NUMBERS))
def test_each_job_of_a_pack_has_the_result_it_has_alone(model: str, executor: str, tmp_path: Path) -> None:
    packed_and_alone(model, 2, PackOptions(None, executor, False), tmp_path)
    for job in range(2):
        assert_metrics_agree(tmp_path / f"packed{job}", tmp_path / f"alone{job}")
        assert result(tmp_path / f"packed{job}")["pack"] == {
            "size": 2,
            "executor": executor,
            "common_random_numbers": False,
        }


def test_the_executor_that_is_measured_to_be_fastest_is_recorded(tmp_path: Path) -> None:
    packed_and_alone("vicreg", 2, PackOptions(None, MEASURED, False), tmp_path)
    for job in range(2):
        assert_metrics_agree(tmp_path / f"packed{job}", tmp_path / f"alone{job}")
        assert result(tmp_path / f"packed{job}")["pack"]["executor"] in EXECUTORS
        said = (tmp_path / f"packed{job}" / "run.log").read_text()
        assert all(f"{executor} " in said for executor in ("a step of 2 jobs: vmap", "mixed", "loop"))


def test_a_gpu_measures_and_a_cpu_goes_job_by_job() -> None:
    assert [PackOptions(None, None, False).executor_on(torch.device(name)) for name in ("cuda", "mps", "cpu")] == [
        *(MEASURED, MEASURED, "loop"),
    ]
    assert (MEASURED, *EXECUTORS) == packed_launcher.EXECUTORS


# In double precision: losses (which are logged in single), tensors by their norms, errors in pixels.
LOSS_RTOL, TENSOR_RTOL, PROBE_RTOL = 1e-6, 1e-9, 1e-4


def in_double_precision(plans: list[Plan]) -> Trainer | PackTrainer:
    """A trainer of these jobs whose model computes in float64 on the same draws."""

    def doubled(build: Callable[[], Method]) -> Callable[[], Method]:
        return lambda: build().double()

    def cast(values: Any) -> Any:
        return tree_map_only(torch.Tensor, lambda value: value.double(), values)

    trainer = trainer_of([replace(plan, build_method=doubled(plan.build_method)) for plan in plans])
    for name in ("step", "rollout", "apply_eval"):
        method = getattr(trainer.program, name)
        setattr(trainer.program, name, lambda *inputs, method=method: method(*cast(inputs)))
    return trainer


def pack_and_alone(model: str, num_jobs: int, folder: Path) -> tuple[PackTrainer, list[Trainer]]:
    """A pack, and each of its jobs alone."""
    plans = [plan(folder / str(job), *overrides_of(model, job)) for job in range(num_jobs)]
    pack, alone = in_double_precision(plans), [in_double_precision([one]) for one in plans]
    assert isinstance(pack, PackTrainer)
    return pack, [one for one in alone if isinstance(one, Trainer)]


def compare_steps(pack: PackTrainer, alone: list[Trainer], steps: int) -> None:
    """Step by step from the same state, each job of a pack must do what it does alone; then their probes must agree.

    Training multiplies a step's rounding, so that two runs drift apart, on some processors more than on others. So each
    job alone is given the pack's state before every step.
    """
    for _ in range(steps):
        for row, one in enumerate(alone):
            one.program.load(pack.program.saved(row))
            one.advance()
        pack.advance()
        for row, (one, losses) in enumerate(zip(alone, losses_of(pack), strict=True)):
            assert losses == pytest.approx(one.tally.take(), rel=LOSS_RTOL), row
            ours, theirs = pack.program.saved(row), one.program.saved()
            for kind in ours:
                for name, value in theirs[kind].items():
                    difference = float((ours[kind][name] - value).double().norm())
                    assert difference <= TENSOR_RTOL * float(value.double().norm()), f"job {row}: {name}"
    for row, one in enumerate(alone):
        one.program.load(pack.program.saved(row))
    for report, one in zip(pack._probe(), alone, strict=True):
        expected = one._probe().as_metrics()
        for name, value in report.as_metrics().items():
            assert value == pytest.approx(expected[name], rel=PROBE_RTOL), name


@pytest.mark.slow
@pytest.mark.parametrize("num_jobs", [5, 8])
@pytest.mark.parametrize("model", sorted(NUMBERS))
def test_larger_packs_agree_too(model: str, num_jobs: int, tmp_path: Path) -> None:
    pack, alone = pack_and_alone(model, num_jobs, tmp_path)
    compare_steps(pack, alone, pack.total_steps)


def _first_jobs_numbers(pack: PackTrainer) -> None:
    """Every job has the optimizer's numbers of the first."""
    hyper = pack.program.state.hyper
    pack.program.state.hyper = {name: value[:1].expand_as(value).clone() for name, value in hyper.items()}
    pack.learning_rates = pack.learning_rates[:, :1].expand_as(pack.learning_rates)


def _mixed_statistics(pack: PackTrainer) -> None:
    """Jobs see a hundredth of their neighbours' buffers: coefficients, and statistics of norms."""
    pack.program.buffers = {
        name: value + (0.01 * (value.roll(1, 0) - value)).to(value.dtype)
        for name, value in pack.program.buffers.items()
    }


def _other_jobs_data(pack: PackTrainer) -> None:
    """Two jobs have each other's sequences."""
    pack.streams = JobStreams([job.stream for job in reversed(pack.jobs)], common=False)


def _other_gradient(pack: PackTrainer) -> None:
    """The last job's gradient is larger by a thousandth."""
    update = pack.program.state.optimizer.update

    def wrong(params: torch.Tensor, grads: torch.Tensor, *rest: Any) -> None:
        grads[-1] *= 1.001
        update(params, grads, *rest)

    pack.program.state.optimizer = copy.copy(pack.program.state.optimizer)
    pack.program.state.optimizer.update = wrong  # type: ignore[method-assign]


@pytest.mark.parametrize("model", ["vicreg", "rssm"])
@pytest.mark.parametrize("fault", [None, _first_jobs_numbers, _mixed_statistics, _other_jobs_data, _other_gradient])
def test_a_step_of_a_broken_pack_is_found(
    fault: Callable[[PackTrainer], None] | None, model: str, tmp_path: Path
) -> None:
    pack, alone = pack_and_alone(model, 2, tmp_path)
    if fault is None:
        compare_steps(pack, alone, 2)
        return
    fault(pack)
    with pytest.raises(AssertionError):
        compare_steps(pack, alone, 2)  # the first step's learning rate is 0


def test_job_by_job_a_pack_gives_the_very_bits(tmp_path: Path) -> None:
    packed_and_alone("vicreg", 2, PackOptions(None, "loop", False), tmp_path)
    for job in range(2):
        ours, theirs = (
            checkpoint.load(tmp_path / f"{name}{job}" / checkpoint.LAST)["model"] for name in ("packed", "alone")
        )
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_adam_probe_packs(tmp_path: Path) -> None:
    extra = ["probe=adam", "probe.epochs=2", "probe.fit_sequences=48", "probe.judge_sequences=40"]
    run_pack([plan(tmp_path / f"packed{job}", *overrides_of("vicreg", job), *extra) for job in range(2)], VMAP)
    for job in range(2):
        run_pack([plan(tmp_path / f"alone{job}", *overrides_of("vicreg", job), *extra)], VMAP)
        assert_metrics_agree(tmp_path / f"packed{job}", tmp_path / f"alone{job}")


def test_a_job_whose_loss_is_no_number_leaves_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    rates = ["1e-3", "1e30", "2e-3"]
    jobs = [["model=supervised", f"seed={job}", f"optimizer.base_lr={rate}"] for job, rate in enumerate(rates)]
    outcomes = run_pack([plan(tmp_path / f"packed{job}", *texts) for job, texts in enumerate(jobs)], VMAP)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert "not finite" in result(tmp_path / "packed1")["error"]
    for job in (0, 2):
        run_pack([plan(tmp_path / f"alone{job}", *jobs[job])], VMAP)
        assert_metrics_agree(tmp_path / f"packed{job}", tmp_path / f"alone{job}")


def test_a_pack_interrupted_in_the_middle_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [overrides_of("vicreg", job) for job in range(2)]
    run_pack([plan(tmp_path / f"whole{job}", *texts) for job, texts in enumerate(names)], VMAP)
    original = PackTrainer.advance

    def advance(self: PackTrainer) -> None:
        original(self)
        if self.step == 4:
            monkeypatch.setattr(PackTrainer, "advance", original)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PackTrainer, "advance", advance)
    with pytest.raises(KeyboardInterrupt):
        run_pack([plan(tmp_path / f"parts{job}", *texts) for job, texts in enumerate(names)], VMAP)
    assert not (tmp_path / "parts0" / "result.json").exists()
    run_pack([plan(tmp_path / f"parts{job}", *texts) for job, texts in enumerate(names)], VMAP)
    for job in range(2):
        ours, theirs = (checkpoint.load(tmp_path / f"{n}{job}" / checkpoint.LAST)["model"] for n in ("parts", "whole"))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        assert_metrics_agree(tmp_path / f"parts{job}", tmp_path / f"whole{job}", rtol=0)


def test_jobs_of_a_pack_whose_checkpoints_differ_go_on_in_packs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a damaged checkpoint, or a kill while a pack was being saved."""
    names = [overrides_of("vicreg", job) for job in range(3)]
    loop = PackOptions(None, "loop", False)
    run_pack([plan(tmp_path / f"whole{job}", *texts) for job, texts in enumerate(names)], loop)
    original = PackTrainer.advance

    def advance(self: PackTrainer) -> None:
        original(self)
        if self.step == 4:
            monkeypatch.setattr(PackTrainer, "advance", original)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PackTrainer, "advance", advance)
    with pytest.raises(KeyboardInterrupt):
        run_pack([plan(tmp_path / f"parts{job}", *texts) for job, texts in enumerate(names)], loop)
    (tmp_path / "parts1" / checkpoint.LAST).write_bytes(b"damaged")  # of the previous one the step is 3
    (tmp_path / "parts2" / "config.yaml").write_text("- damaged")
    plans = [plan(tmp_path / f"parts{job}", *texts) for job, texts in enumerate(names)]
    assert group(plans, pack_size=8) == [[0, 2], [1]]
    jobs = [packed_core.PackedJob(texts, OmegaConf.create(), one) for texts, one in zip(names, plans, strict=True)]
    assert packed_core._smaller(jobs, [0, 1, 2]) == [[0], [2], [1]]
    with pytest.raises(PackFailed, match="not from steps"):
        run_pack(plans[:2], loop)
    with pytest.raises(PackFailed, match="config.yaml"):  # the folder of one job costs the others nothing
        run_pack([plans[0], plans[2]], loop)
    for job in (0, 1):
        run_pack([plans[job]], loop)
        ours, theirs = (checkpoint.load(tmp_path / f"{n}{job}" / checkpoint.LAST)["model"] for n in ("parts", "whole"))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        assert_metrics_agree(tmp_path / f"parts{job}", tmp_path / f"whole{job}", rtol=0)


def test_a_packed_checkpoint_is_continued_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loop._between_epochs

    def between(trainee: loop.Trainee) -> None:
        original(trainee)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "_between_epochs", between)
    with pytest.raises(KeyboardInterrupt):
        run_pack([plan(tmp_path / f"packed{job}", *overrides_of("vicreg", job)) for job in range(2)], VMAP)
    monkeypatch.setattr(loop, "_between_epochs", original)
    run(compose([*TINY, f"folder={tmp_path / 'packed1'}", *overrides_of("vicreg", 1)], with_hydra=True))
    run_pack([plan(tmp_path / "alone1", *overrides_of("vicreg", 1))], VMAP)
    assert_metrics_agree(tmp_path / "packed1", tmp_path / "alone1")


def test_common_random_numbers_give_every_job_the_same_dots(tmp_path: Path) -> None:
    options = PackOptions(None, "vmap", True)
    plans = [plan(tmp_path / f"{noise}", f"dataset.static_noise={noise}", f"seed={noise}") for noise in (0, 1, 2)]
    streams = [Stream(p.dataset, p.config.seed, "train", None, "cpu") for p in plans]
    batch = JobStreams(streams, common=True).next()
    clean, one, two = batch.states
    assert torch.equal(batch.locations[0], batch.locations[1])
    torch.testing.assert_close(two - clean, 2 * (one - clean), rtol=0, atol=1e-6)
    run_pack(plans, options)
    assert result(tmp_path / "1")["pack"]["common_random_numbers"] is True


def test_jobs_are_packed_where_they_differ_in_numbers_alone(tmp_path: Path) -> None:
    texts = [
        ["seed=1", "dataset.static_noise=0.5"],
        ["seed=2", "optimizer.base_lr=0.3"],
        ["dataset.batch_size=4"],  # another shape
        ["model=simclr"],  # another computation
        ["seed=3", "model.sim_coeff=0"],  # a term that is not computed
        ["dataset.noise=2", "model.cov_coeff=3"],
        ["dataset.structured_noise=true", "dataset.structured_source=photos"],
    ]
    plans = [plan(tmp_path / str(number), *text) for number, text in enumerate(texts)]
    assert group(plans, pack_size=8) == [[0, 1, 5], [2], [3], [4], [6]]
    assert group(plans, pack_size=2) == [[0, 1], [5], [2], [3], [4], [6]]


def test_memory_of_a_job_grows_with_its_batch(tmp_path: Path) -> None:
    small, large = (
        plan(tmp_path / str(size), f"dataset.batch_size={size}", "dataset.size=64")
        for size in (8, 64)
    )
    assert 6 < (bytes_per_job(large) / bytes_per_job(small)) < 9
    assert automatic_pack_size(small) == 8  # on a CPU, larger packs gain nothing


def test_memory_of_a_job_is_that_of_a_batched_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone on a CPU it may keep less: norms that are folded keep no maps of their own."""
    spec = plan(tmp_path / "job", "dataset.batch_size=64", "dataset.size=64")
    planned = []
    for folded_from in (0, 1 << 40):
        monkeypatch.setattr(folded_norm, "FOLDED_FROM", folded_from)
        planned.append(bytes_per_job(spec))
    assert planned[0] == planned[1]


@pytest.mark.parametrize("executor", ["vmap", "mixed"])
@pytest.mark.parametrize("model", sorted(NUMBERS))
def test_a_pack_in_bf16(model: str, executor: str, tmp_path: Path) -> None:
    """The batched programs that a GPU chooses from: their jobs agree with each alone to the 8 bits of bfloat16."""

    def losses(*jobs: int) -> list[dict[str, float]]:
        root = tmp_path / str(len(jobs))
        plans = [plan(root / str(job), "precision=bf16", *overrides_of(model, job)) for job in jobs]
        trainer = trainer_of(plans, executor)
        for _ in range(4):
            trainer.advance()
        return losses_of(trainer)

    packed = losses(0, 1, 2)
    for job in range(3):
        [alone] = losses(job)
        assert packed[job] == pytest.approx(alone, rel=2**-8)


def test_a_pack_size_is_found_out_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    one = plan(tmp_path / "one", "dataset.batch_size=8")
    monkeypatch.setattr(packed_core, "automatic_pack_size", lambda spec: os.getpid())
    assert packed_core._measured_pack_size(one) not in (1, os.getpid())

    def fails(one: Plan) -> int:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(packed_core, "automatic_pack_size", fails)
    assert packed_core._measured_pack_size(one) == 1
    assert "hydra.launcher.pack_size=null: how many jobs fit in memory could not be found out" in caplog.text
    assert "RuntimeError: no kernel image is available" in capfd.readouterr().err


class _HostReads(TorchDispatchMode):
    """Notes the operators that make the host wait for a device: a number, or a size, is read from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique"):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("num_jobs", [1, 2])
@pytest.mark.parametrize("model", list(NUMBERS))
def test_a_step_never_waits_for_the_device(model: str, num_jobs: int, tmp_path: Path) -> None:
    plans = [plan(tmp_path / str(job), *overrides_of(model, job)) for job in range(num_jobs)]
    trainer = trainer_of(plans)
    with _HostReads() as seen:
        trainer.advance()
        assert not seen.names
        torch.ones(1).item()  # what would be noticed
    assert seen.names == ["aten._local_scalar_dense.default"]


class _Recorded(TorchDispatchMode):
    """What a CUDA graph is, on a CPU: the operators of a call in their order, repeated on the very same memory.

    Whatever Python worked out during the call stays as it was.
    """

    def __init__(self, call: Callable[[], Losses]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._operators: list[tuple[Any, Any, Any, Any]] = []
        with self:
            self.losses = call()
        self._fresh = True  # unlike a graph's, this recording has run the call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.add(func.overloadpacket.__name__)
        tensors = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs or {}, out))  # the same memory
        self._operators.append((func, *tensors))
        return out

    @torch.no_grad()
    def replay(self) -> Losses:
        """The call again."""
        for func, args, kwargs, kept in [] if self._fresh else self._operators:
            for target, value in zip(tree_leaves(kept), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(target, torch.Tensor) and not target.is_set_to(value):
                    target.copy_(value)
        self._fresh = False
        return self.losses


def trained(folder: Path, model: str, num_jobs: int, *, recordings: list[_Recorded] | None) -> list[dict[str, Any]]:
    """The jobs' states after training, with a recorded step where there is a list for the recordings."""

    def record(call: Callable[[], Losses]) -> Callable[[], Losses]:
        assert recordings is not None
        recordings.append(_Recorded(call))
        return recordings[-1].replay

    plans = [plan(folder / str(job), *overrides_of(model, job)) for job in range(num_jobs)]
    trainer = trainer_of(plans)
    if recordings is not None:
        trainer.program.replay_steps(record)
    trainer.run()
    return [checkpoint.load(folder / str(job) / checkpoint.LAST) for job in range(num_jobs)]


@pytest.mark.parametrize("num_jobs", [1, 2])
@pytest.mark.parametrize("model", list(NUMBERS))
def test_a_step_can_be_recorded_once_and_replayed(model: str, num_jobs: int, tmp_path: Path) -> None:
    recordings: list[_Recorded] = []
    ours = trained(tmp_path / "recorded", model, num_jobs, recordings=recordings)
    theirs = trained(tmp_path / "plain", model, num_jobs, recordings=None)
    assert len(recordings) == 1
    assert "lift_fresh" not in recordings[0].names  # a constant made on the host, which a graph may not fetch
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(one["model"][name], value) for name, value in other["model"].items())


def test_when_a_job_leaves_the_step_is_recorded_anew(tmp_path: Path) -> None:
    recordings: list[_Recorded] = []

    def record(call: Callable[[], Losses]) -> Callable[[], Losses]:
        recordings.append(_Recorded(call))
        return recordings[-1].replay

    numbers = ["model=supervised", "dataset.size=48", "trainer.log_every_steps=6"]  # jobs leave at a record
    plans = [
        plan(tmp_path / str(job), f"seed={job}", f"optimizer.base_lr={rate}", *numbers)
        for job, rate in enumerate(["1e-3", "1e30"])
    ]
    trainer = trainer_of(plans)
    trainer.program.replay_steps(record)
    trainer.run()
    assert [recording.losses.total.shape[0] for recording in recordings] == [2, 1]
    run_pack([plan(tmp_path / "alone", "seed=0", "optimizer.base_lr=1e-3", *numbers)], VMAP)
    assert_metrics_agree(tmp_path / "0", tmp_path / "alone")


@pytest.mark.parametrize(
    ("compiled", "overrides", "compiler"),
    [
        (True, ["trainer.compile=auto"], True),
        (True, ["trainer.compile=true", "precision=fp32"], False),
        (False, [], True),
        (False, ["trainer.compile=auto"], False),
        (False, ["trainer.compile=auto", "precision=fp32"], True),
        (False, ["trainer.compile=auto", "trainer.epochs=9"], True),
        (False, ["trainer.compile=auto", "model=rssm"], True),
    ],
)
def test_auto_compiles_long_runs_in_bf16_of_models_that_gain(
    compiled: bool, overrides: list[str], compiler: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Program] = []
    monkeypatch.setattr(Program, "compile", lambda program: calls.append(program))
    monkeypatch.setattr(runtime, "has_cpp_compiler", lambda: compiler)
    long = ["precision=bf16", "dataset.size=5000", "dataset.batch_size=10", "trainer.epochs=10"]
    Trainer(plan(tmp_path / "run", *long, *overrides))
    assert bool(calls) == compiled


@pytest.mark.slow
@pytest.mark.skipif(not runtime.has_cpp_compiler(), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("model", sorted(NUMBERS))
def test_a_compiled_run_has_the_result_of_a_plain_one(model: str, tmp_path: Path) -> None:
    for name, compiled in (("compiled", "true"), ("plain", "false")):
        run_pack([plan(tmp_path / name, *overrides_of(model, 1), f"trainer.compile={compiled}")], VMAP)
    assert_metrics_agree(tmp_path / "compiled", tmp_path / "plain")
