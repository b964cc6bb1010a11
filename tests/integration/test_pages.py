"""Every command and every yaml of README.md and docs/ does what the pages say; a new page is tested by itself.

Here commands compose, check and plan: sweeps and runs by a dry run, benchmarks up to their arguments, make's targets
without their recipes. The slow tests run them at a reduced size.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from harness import Command, Server, served
from pages import PAGES, REPOSITORY, Block, Found, anchors, blocks, commands, lay_out, links, unlike, untold
from results_samples import compose, result_of, write_grid, write_run, write_unfinished

from jepa.results.archiving import archive_runs
from jepa.results.collect import collect

SPAN = "python -m jepa.results FOLDER"  # a pattern, not a command
EVERYTHING = [found for page in PAGES for found in commands(page) if found.text != SPAN]
COMMANDS = list({" ".join(found.words): found for found in reversed(EVERYTHING)}.values())[::-1]  # each once
YAML = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
SHOWS = ("--help", "--version", "--shell-completion", "--cfg", "--hydra-help")
SMALL = {
    "trainer": "quick",
    "trainer.epochs": "2",
    "trainer.warmup_epochs": "0",
    "trainer.log_every_steps": "1",
    "dataset.size": "32",
    "dataset.batch_size": "16",
    "dataset.num_steps": "5",
    "probe.fit_sequences": "120",
    "probe.judge_sequences": "100",
    "plots": "false",
    "threads": "1",
}
SWEEP_KEYS = {"axes", "zipped", "points", "overrides", "space", "n_trials", "sampler", "pruner", "pruner_options"}
MOST_JOBS = 8  # of a sweep that is run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that forks for every command."""
    with served(tmp_path_factory.mktemp("server")) as server:
        yield server


def ids(found: Found | Block) -> str:
    return f"{found.page}:{found.line}"


def page_of(found: Found) -> Path:
    return next(page for page in PAGES if page.name == found.page)


def kind(words: list[str]) -> tuple[str, list[str]]:
    """Which program a command runs, and its arguments."""
    program, *arguments = words
    if program.endswith("python") and arguments[:1] == ["-m"]:
        return arguments[1], arguments[2:]
    if program.endswith("python"):
        return arguments[0], arguments[1:]
    scripts = {"jepa-run": "jepa.run", "jepa-results": "jepa.results", "jepa-import-config": "jepa.import_config"}
    scripts["jepa-plan"] = "jepa.plan"
    return scripts.get(program, program), arguments


def is_sweep(arguments: list[str]) -> bool:
    return any(word in ("--multirun", "-m") or word.lstrip("+").startswith("sweep=") for word in arguments)


def dry(server: Server, arguments: list[str], folder: Path) -> Command:
    """A run, composed and checked, or a sweep, whose jobs are composed: building every model would take minutes."""
    if any(word in SHOWS for word in arguments):
        return server.run(arguments, folder)
    kept = [word for word in arguments if not word.startswith("dry_run=")]
    quick = ["hydra.sweeper.check=null"] if is_sweep(arguments) else []
    done = server.run([*kept, "dry_run=true", *quick], folder)
    assert not list(folder.rglob("result.json")), "a dry run starts nothing"
    return done


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_names_its_language_or_holds_commands(page: Path) -> None:
    assert not [f"{block.page}:{block.line}" for block in untold(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    found = links(page)
    assert not [file for file, _ in found if not file.exists()]
    assert not [(file.name, anchor) for file, anchor in found if anchor and anchor not in anchors(file)]


@pytest.mark.parametrize("found", COMMANDS, ids=ids)
def test_a_command_is_accepted(found: Found, server: Server, tmp_path: Path) -> None:
    program, arguments = kind(found.words)
    lay_out(page_of(found), tmp_path)
    archives(arguments, tmp_path)
    if program == "jepa.run":
        done = dry(server, arguments, tmp_path)
    elif program == "jepa.results":
        if any(word.startswith("docs/studies/") for word in arguments):
            (tmp_path / "docs").symlink_to(REPOSITORY / "docs")  # the archives of the study are part of the repository
        samples(arguments, tmp_path)
        done = server.run(arguments, tmp_path, module="results")
    elif program == "jepa.plan":
        for folder in (word for word in arguments if word.startswith("outputs/")):
            made = run_small(server, ["model=idm", f"folder={folder}"], tmp_path, plots="false")
            assert made.code == 0, made.said
        done = server.run([*arguments, "plan.num_episodes=3"], tmp_path, module="plan")
    elif program == "jepa.import_config":
        done = server.run([*arguments, "--add", "dry_run=true"], tmp_path, module="import_config")
    elif program.startswith("docs/"):
        for folder in (word for word in arguments if word.startswith("outputs/")):
            made = run_small(server, [f"folder={folder}"], tmp_path, plots="false")
            assert made.code == 0, made.said
        done = server.run([str(REPOSITORY / program), *arguments], tmp_path, module="script")
    elif program == "wandb":
        explained = subprocess.run(
            [sys.executable, "-m", "wandb", arguments[0], "--help"], capture_output=True, text=True, check=False
        )
        options = [word for word in arguments if word.startswith("--")]
        assert explained.returncode == 0 and all(option in explained.stdout for option in options), explained
        return
    elif program.startswith("benchmarks/"):
        done = server.run([str(REPOSITORY / program), *arguments, "--help"], tmp_path, module="script")
    elif program == "optuna-dashboard":
        assert arguments[:2] == ["--storage-class", "JournalFileStorage"], "what a search writes"
        return
    elif program == "tensorboard":
        assert arguments == ["--logdir", "outputs"], "the folder above the runs"
        return
    elif program == "make":
        made = subprocess.run(["make", "-n", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        return
    elif program == "pip":
        extras = re.findall(r"\[([\w,]+)\]", found.text)
        known = (REPOSITORY / "setup.cfg").read_text().partition("[options.extras_require]")[2]
        assert all(re.search(rf"^{extra} =", known, re.M) for names in extras for extra in names.split(","))
        return
    else:
        pytest.fail(f"{found.where}: teach this test what to do with {program}")
    assert done.code == 0 and "Traceback" not in done.said, done.said


@pytest.mark.parametrize("block", YAML, ids=ids)
def test_a_yaml_of_a_sweep_plans_as_many_jobs_as_the_page_says(block: Block, server: Server, tmp_path: Path) -> None:
    text = "\n".join(block.lines) + "\n"
    content = yaml.safe_load(text)
    assert isinstance(content, dict)
    if not content.keys() & SWEEP_KEYS:
        return
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "page.yaml").write_text(text)
    model = [] if "n_trials" not in content and "space" not in content else ["model=vicreg"]
    done = dry(server, ["--config-dir", str(tmp_path / "conf"), "+sweep=page", *model], tmp_path)
    assert done.code == 0, done.said
    if model:
        return
    said = re.search(r"(\d+) jobs", block.after)
    assert said, "the paragraph below a sweep file says how many jobs it makes"
    assert f"{said[1]} jobs in " in done.out, done.said


SHOWN = [found for found in EVERYTHING if found.output]


@pytest.mark.slow
@pytest.mark.parametrize("found", [found for found in COMMANDS if "jepa.run" in found.text], ids=ids)
def test_a_command_runs_at_a_reduced_size(found: Found, server: Server, tmp_path: Path) -> None:
    lay_out(page_of(found), tmp_path)
    archives(kind(found.words)[1], tmp_path)
    done = run_small(server, kind(found.words)[1], tmp_path)
    assert done.code == 0 and "Traceback" not in done.said, done.said


@pytest.mark.parametrize("found", SHOWN, ids=ids)
def test_shown_output_is_what_is_printed(found: Found, server: Server, tmp_path: Path) -> None:
    program, arguments = kind(found.words)
    if program == "jepa.results":
        samples(arguments, tmp_path)
        done = server.run(arguments, tmp_path, module="results")
    elif program == "jepa.import_config":
        lay_out(page_of(found), tmp_path)
        done = server.run(arguments, tmp_path, module="import_config")
    elif program == "make" and arguments[:1] == ["run"]:
        enough = {"probe.fit_sequences": "1100", "plots": "true"}  # for a probe without a warning
        done = run_small(server, [], tmp_path, **enough)
    else:
        assert program == "jepa.run", found.text
        done = (
            dry(server, arguments, tmp_path) if "dry_run=true" in arguments else run_small(server, arguments, tmp_path)
        )
    assert done.code == 0, done.said
    printed = re.sub(r"^hardly trained: .*\n", "", done.out, flags=re.M)  # said of four steps
    wrong = unlike(found.output, printed)
    assert not wrong, "\n".join([found.where, *wrong, done.out])


def run_small(server: Server, arguments: list[str], folder: Path, **changes: str) -> Command:
    """Run a command on small data, in this process's own way; a sweep of many jobs is planned only."""
    if any(word in (*SHOWS, "dry_run=true") for word in arguments):
        return server.run(arguments, folder)
    size = {**SMALL, **changes}
    kept = [word for word in arguments if word.partition("=")[0] not in (*size, "hydra/launcher", "precision")]
    small = [*kept, *(f"{key}={value}" for key, value in size.items())]
    if any("n_trials" in word or word.endswith(("=search", "=protocol", "=benchmark")) for word in arguments):
        small = [*(word for word in small if not word.startswith("sweep.n_trials=")), "sweep.n_trials=2"]
        small = [re.sub(r"^(trainer.probe_every_epochs)=.*", r"\1=1", word) for word in small]
    elif is_sweep(arguments):
        plan = dry(server, small, folder)
        number = re.search(r"^(\d+) jobs in ", plan.out, re.M)
        if plan.code != 0 or (number and int(number[1]) > MOST_JOBS):
            return plan
    return server.run(small, folder)


def archives(arguments: list[str], root: Path) -> None:
    """An archive in each folder below studies/ that a command reads."""
    words = [word.rpartition("=")[2] for word in arguments]
    written = words[words.index("--archive") + 1] if "--archive" in words else None
    for folder in {word for word in words if word.startswith("studies/")} - {written}:
        write_grid(root / "passed_on", noises=1, seeds=1)
        archive_runs(found := collect([str(root / "passed_on")]), found.runs, str(root / folder))
        shutil.rmtree(root / "passed_on")


def samples(arguments: list[str], root: Path) -> None:
    """Runs in the folders that a command of ``jepa.results`` names, with the axes, dots and trials that it asks for.

    Each grid has a failed and a running job, as any real one has on its way.
    """
    if "outputs/example" in arguments:
        return example(root / "outputs" / "example")
    text = " ".join(arguments)
    values: dict[str, list[object]] = {"dataset.static_noise": [0.0, 0.5, 1.5], "seed": [0, 1, 2]}
    if "dataset.noise" in text:
        values["dataset.noise"] = [0.0, 1.0]
    if "--best" in text or "trials" in text or "importance" in text:
        values["optimizer.base_lr"] = [0.1, 0.5, 1.0]
    if "table1" in arguments:
        values = {"dataset.num_dots": [3], "seed": [0, 1, 2]}
    if "--leaderboard" in arguments:
        values = {"benchmark": ['"v1/clean"', '"v1/fixed_125"'], "seed": [1, 2]}
    if "outputs/search" in arguments:
        values = {"optimizer.base_lr": [0.1 * number for number in range(1, 9)]}
    folders = [word for word in arguments if word == "outputs" or word.startswith("outputs/")]
    for folder in folders or ["outputs/sweep"]:
        sweep = root / (folder if folder != "outputs" else "outputs/sweep")
        models = ["vicreg"] if len(values) == 1 else ["vicreg", "rssm"]
        points = [[f"model={model}"] for model in models]
        for key, choices in values.items():
            points = [[*point, f"{key}={choice}"] for point in points for choice in choices]
        for number, point in enumerate(points):
            dots = [4.0 + number, 5.0, 6.0]
            metrics = {**result_of(compose(point), point)["metrics"], "prediction_rmse_px_per_dot": dots}
            if "planning_success" in text:
                metrics |= {"planning_success": 0.1 * (number % 10), "planning_success_other": 0.0}
            if "transfer" in arguments:
                metrics |= {f"prediction_rmse_px_{form}_clean": 3.0 + number for form in ("on", "kept_on")}
            folder = write_run(sweep, point, trial=number, metrics=metrics)
            lines = [{"step": n, "epoch": float(n), "kind": "train", "loss/total": 9.0 / n} for n in (1, 2)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed = ["model=vicreg", "dataset.static_noise=2.0", "seed=0"]
        write_run(
            sweep, failed, status="failed", metrics={}, objective=None, verdict=None, error="RuntimeError: memory"
        )
        running = {"step": 100, "epoch": 1.0, "kind": "train", "time_s": 3.0, "loss/total": 9.0}
        write_unfinished(sweep, ["model=vicreg", "dataset.static_noise=2.0", "seed=1"], [running])


def example(sweep: Path) -> None:
    """The sweep whose table docs/results.md shows: a learning rate for each model, two verdicts in a row."""
    for model, rate in (("vicreg", 2.0), ("idm", 8.0)):
        for noise in (0.0, 1.25):
            for seed in range(3):
                verdict = "knows only the start" if not noise or (model, seed) == ("idm", 2) else "ignores the dot"
                point = [f"model={model}", f"optimizer.base_lr={rate}", f"dataset.static_noise={noise}", f"seed={seed}"]
                write_run(sweep, point, verdict=verdict)
