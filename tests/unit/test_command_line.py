"""What is typed: paths with '=', modes, bounds, defaults that follow, and errors that say what to type instead."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import jepa.run
from jepa.config import search_path
from jepa.config.arguments import prepare
from jepa.config.compose import compose, config_hash
from jepa.errors import ConfigError, check_folder, check_widths, printable, shown
from jepa.sweep import auto


def ended(arguments: list[str]) -> int:
    """Run a command line up to the training."""

    def task(cfg: DictConfig) -> float:
        try:
            jepa.run.check(cfg)
        except Exception as error:  # as a single run hands its errors past Hydra
            raise jepa.run._Stopped(error) from error
        return 0.0

    return jepa.run.command_line(arguments, task)


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("folder=a=b/c=d", "folder='a=b/c=d'"),
        ("init_from=it's=1.pt", r"init_from='it\'s=1.pt'"),
        ("reuse=outputs/search-model=vicreg", "reuse='outputs/search-model=vicreg'"),
        ("reuse=[a=1,b,'c=2']", "reuse=['a=1',b,'c=2']"),
        ("folder='a=b'", "folder='a=b'"),
        ("folder=outputs/x", "folder=outputs/x"),
        ("dataset.noise=1", "dataset.noise=1"),
    ],
)
def test_paths_may_hold_what_hydras_grammar_uses(given: str, expected: str) -> None:
    arguments = [given, "--multirun"] if given.startswith("reuse") else [given]
    assert prepare(arguments)[0] == expected


def test_an_existing_path_may_hold_anything(in_tmp: Path) -> None:
    name = "a (copy), 2 {x}.pt"
    (in_tmp / name).touch()
    [word] = prepare([f"init_from={name}"])
    assert compose([word]).init_from == name


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--run", "+sweep=quick"], ["--run +sweep=quick", "leave out --run"]),
        (["hydra.mode=RUN", "+sweep=quick"], ["hydra.mode=RUN +sweep=quick"]),
        (["sweep.n_trials=3"], ["sweep.n_trials=3", "--multirun"]),
        (["reuse=there"], ["reuse=there", "--multirun"]),
        (["+sweep.axes.seed=[0,1]"], ["sweep.axes.seed", "--multirun"]),
        (["seed=\ud800"], ["UTF-8"]),
        (["folder=a\0b"], ["UTF-8"]),
        (["seed=" + "1" * 30_000], ["too long", "30007 characters"]),
        (["seed=" + "[" * 60 + "]" * 60], ["nested 60 deep"]),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode().replace("\0", "?"),
)
def test_words_that_would_be_ignored_or_cannot_be_read_are_refused(words: list[str], fragments: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(words)
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


def test_what_is_shown_fits_on_a_line_of_any_terminal() -> None:
    assert printable("a\nb\x1b[31m\t\ud800") == "a; b\\x1b[31m \\ud800"
    assert len(printable("x" * 10**6)) < 1100
    assert len(shown("y" * 10**6)) < 200 and "1000002 characters" in shown("y" * 10**6)
    assert shown(10**1000) == "a number of 3322 bits"


# --- a single run --------------------------------------------------------------------------------------------------


def test_a_dry_run_of_one_run_says_what_it_would_do_and_does_nothing(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jepa.run.command_line(["dry_run=true", "folder=there", "trainer=quick"]) == 0
    said = capsys.readouterr().out
    assert "one run in there: this command starts it" in said and "5 epochs of 100 steps" in said
    assert list(in_tmp.iterdir()) == []


def test_a_dry_run_finds_what_is_wrong(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jepa.run.command_line(["dry_run=true", "trainer.epochs=3", "trainer.warmup_epochs=5"]) == 2
    assert "trainer.warmup_epochs=5: must be less than the run's 3 epochs" in capsys.readouterr().err
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize(("epochs", "warmup"), [(100, 10), (50, 5), (25, 2.5), (5, 1), (2, 1), (1, 0), (0, 0)])
def test_the_warm_up_follows_from_the_epochs(epochs: int, warmup: float) -> None:
    cfg = compose([f"trainer.epochs={epochs}"])
    assert cfg.trainer.warmup_epochs == warmup == cfg.optimizer.schedule.warmup_epochs
    assert ended([f"trainer.epochs={epochs}"]) == 0


def test_the_hash_of_the_defaults_is_known() -> None:
    """A change of it makes every earlier run another one: only for a reason that the commit tells."""
    assert config_hash(compose([])) == "da110c1951"
    assert compose(["trainer=quick"]).trainer.warmup_epochs == 1
    assert compose(["trainer.epochs=20", "trainer.warmup_epochs=3"]).trainer.warmup_epochs == 3


@pytest.mark.parametrize(
    ("word", "fragments"),
    [
        ("optimizer.momentum=1", ["less than 1"]),
        ("optimizer.weight_decay=1e308", ["at most 1000000"]),
        ("optimizer.base_lr=1e-320", ["at least 1e-30"]),
        ("probe.ridge=1e308", ["at most 1000000"]),
        ("dataset.static_noise_speed=1e308", ["at most 1000"]),
        ("dataset.noise=1e308", ["at most 1000"]),
        ("dataset.dot_std=1e-10", ["at least 0.1"]),
        ("dataset.num_steps=100000000", ["at most 10000"]),
        ("model.sim_coeff=1e308", ["at most 1000000"]),
        ("trainer.epochs=99999999999999999999", ["at most 1000000"]),
        ("trainer.epochs=1000000", ["312,000,000 steps"]),
        ("threads=100000000", ["at most 1024"]),
        ("device=cuda:99999999999999999999", ["cuda:N"]),
        ("model.encoder.embedding_size=60000", ["10,835,429,344 parameters"]),
        ("model.encoder.mlp=999999", ["widths of 1 to 65536"]),
        ("model.encoder=null", ["model.encoder=null", "model/encoder=NAME (one of lenet5, menet5"]),
        ("model.encoder=3", ["model.encoder=3", "model/encoder=NAME"]),
        ("model._target_=jepa.optim.lars.LARS", ["model._target_='jepa.optim.lars.LARS'", "Method"]),
        ("model.encoder._target_=jepa.models.heads.MLP", ["model.encoder._target_=", "Encoder"]),
        ("model._target_=jepa.methods.base.Method", ["model._target_="]),
        ("model._target_=jepa.results.__main__.main", ["must name a class"]),
        ("+optimizer._partial_=true", ["optimizer._partial_=True"]),
        ("+dataset._args_=[1]", ["dataset._args_"]),
        ("hydra.run.dir=/etc/passwd", ["/etc/passwd is a file"]),
        ("folder=" + "a" * 300, ["too long for a path"]),
        ("objective=a=b", ["\"objective='a=b'\""]),
        ("lr=1", ["did you mean 'optimizer.base_lr'?"]),
        ("static_noise=1", ["did you mean 'dataset.static_noise'?"]),
        ("dataset_static_noise=1", ["did you mean 'dataset.static_noise'?"]),
        ("dataset_noise=1", ["did you mean 'dataset.noise'?"]),
        ("dataset_structured_noise=true", ["did you mean 'dataset.structured_noise'?"]),
        ("dataset_type=single", ["did you mean 'dataset'?"]),
        ("model_type=vicreg", ["did you mean 'model'?"]),
        ("base_lr=1", ["did you mean 'optimizer.base_lr'?"]),
        ("sim_coeff=1", ["did you mean 'model.sim_coeff'?"]),
        ("repr_dim=512", ["did you mean 'model.encoder.embedding_size'?"]),
        ("embedding_size=512", ["did you mean 'model.encoder.embedding_size'?"]),
        ("epochs=3", ["did you mean 'trainer.epochs'?"]),
        ("batch_size=3", ["did you mean 'dataset.batch_size'?"]),
        ("n_steps=3", ["did you mean 'dataset.num_steps'?"]),
        ("dot_std=3", ["did you mean 'dataset.dot_std'?"]),
        ("encoder=mlp", ["did you mean 'model/encoder'?"]),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_with_what_can(
    word: str, fragments: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended([word]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(fragment in error for fragment in fragments), error
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize("text", ["1-2-", "-1", "1--2", "a", "1.5", "9" * 400, "1-" * 40 + "1", True, [1]])
def test_widths_that_are_none(text: object) -> None:
    with pytest.raises(ConfigError, match="key="):
        check_widths("key", text)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_is_told_from_one_that_can(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink("two", "one")
    os.symlink("one", "two")
    os.symlink("nowhere", "lost")
    Path("file").touch()
    for name, words in [("one/x", "symbolic links"), ("lost", "link to nothing"), ("file/x", "is a file")]:
        with pytest.raises(ConfigError, match=f"folder={name}: .*{words}"):
            check_folder("folder", Path(name))
    assert check_folder("folder", Path("new/folder")) == Path("new/folder")

    def locked(path: object, **options: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", locked)
    with pytest.raises(ConfigError, match=r"folder=x: cannot be used \(.*Permission denied"):
        check_folder("folder", Path("x"))


# --- sweeps --------------------------------------------------------------------------------------------------------


def planned(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a sweep's dry run."""
    assert ended(["--multirun", *arguments, "dry_run=true"]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_key_of_one_option_goes_to_the_jobs_that_have_it(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = planned(["optimizer=adam,adamw", "optimizer.beta1=0.8"], capsys)
    assert both[2].startswith("2 jobs in ") and not any("no such key" in line for line in both)
    some = planned(["optimizer=adam,lars", "optimizer.momentum=0.5,0.6"], capsys)
    assert some[0] == "optimizer.momentum: 2 of 4 points have no such key and do without it"
    assert some[4].startswith("3 jobs in ")
    file = planned(["+sweep=first_results", "model.temperature=2"], capsys)
    assert file[0] == "model.temperature: 6 of 7 points have no such key and do without it"
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["optimizer=adam,lars", "optimizer.momentumm=1"], ["did you mean 'optimizer.momentum'?"]),
        (["trainer.epochs=1,5,20", "trainer.warmup_epochs=10"], ["trainer.warmup_epochs=10", "trainer.epochs=1)"]),
        (["optimizer.momentum=0.5,1"], ["optimizer.momentum=1: must be at least 0 and less than 1"]),
        (["hydra/launcher=basic,joblib", "seed=0,1"], ["hydra/launcher=basic,joblib"]),
        (["hydra/sweeper=basic", "seed=0,1", "threads=1,2"], ["threads=1,2: is no axis"]),
        (["hydra/sweeper=basic", "seed=0,1", "folder=x"], ["folder=x: is for a single run"]),
        (["hydra/sweeper=basic", "seed=range(0,1000000000)"], ["more than 10000 jobs"]),
        (["hydra/sweeper=basic", "+sweep=seeds"], ["sweep.axes: is read by hydra/sweeper=jepa alone"]),
        (["seed=0,1", "hydra.sweep.dir=/etc/passwd/x"], ["hydra.sweep.dir=/etc/passwd/x: /etc/passwd is a file"]),
        (["seed=0,1", "dataset.noise=range(0,1,0.01)", "sweep.max_jobs=10"], ["200 jobs", "sweep.max_jobs=10"]),
        (["+sweep=search", "model=vicreg", "+sweep.axes.dataset.batch_size=[1,2]"], ["dataset.batch_size: set by"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_a_sweep_is_refused_before_it_starts(
    arguments: list[str], fragments: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(["--multirun", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(fragment in error for fragment in fragments), error
    assert list(in_tmp.iterdir()) == []


def test_numbers_in_two_spellings_are_one_sweep(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (planned(["seed=0,1", f"dataset.noise={text}"], capsys) for text in ("1", "1.0"))
    assert [line for line in one if "time:" not in line] == [line for line in other if "time:" not in line]


def test_a_folder_of_an_earlier_name_is_found_again(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jepa.sweep.arguments import parse_arguments
    from jepa.sweep.spec import read_sweep, sweep_names

    words = ["seed=0,1", "dataset.noise=1.0"]
    sweep, _ = read_sweep(compose(words[1:]))
    now, before = sweep_names(sweep, None, parse_arguments(words))
    assert f"outputs/{now}:" in planned(words, capsys)[2]
    (in_tmp / "outputs" / before).mkdir(parents=True)
    assert f"outputs/{before}:" in planned(words, capsys)[2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"axes: {seed: [0, 1]", r"x\.yaml, line [12]: "),
        (b"axes:\n\tseed: [0]", r"x\.yaml, line 2: "),
        (b"axes: {}\naxes: {}", r"x\.yaml.*duplicate key"),
        (b"axes: !nope x", r"x\.yaml, line 1: .*nope"),
        (b"axes: &a {x: *a}", r"x\.yaml"),
        (b"axes: \xff\xfe", r"x\.yaml: is no text in UTF-8 \(byte 6\)"),
        (b"axes: \x01", r"x\.yaml, line 1: a character that yaml does not allow"),
        (b"- 1", r"x\.yaml: must be a mapping"),
        (b"axes: " + b"[" * 3000 + b"]" * 3000, r"x\.yaml: nested too deeply"),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("launcher", ["basic", "auto"])
def test_a_file_that_cannot_be_read_is_named(
    content: bytes,
    words: str,
    launcher: str,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweeps = in_tmp / "sweeps"
    sweeps.mkdir()
    (sweeps / "x.yaml").write_bytes(content)
    for module in (search_path, auto):
        monkeypatch.setattr(module, "sweeps_dir", lambda: sweeps)
    assert ended(["+sweep=x", f"hydra/launcher={launcher}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error), error
    assert [path.name for path in in_tmp.iterdir()] == ["sweeps"]


def test_the_written_configuration_holds_the_warm_ups_number() -> None:
    from jepa.config.compose import resolved

    assert OmegaConf.create(resolved(compose(["trainer.epochs=30"]))).trainer.warmup_epochs == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan/task=stationary"], "plan/task: the chosen option of plan has no such part; these have it: cem, "),
        (["model=idm", "model/projector=mlp"], "model/projector: the chosen option of model has no such part; these "),
        (["plan/taks=stationary"], "plan/taks: no such group; did you mean 'plan/task'?"),
    ],
)
def test_a_part_that_the_chosen_option_has_not(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jepa.run.command_line([*words, "dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
