"""The command `refit`.

It brings data, checks and shows the state of a project, and predicts. DVC runs the DAG.
"""

import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TextIO

import typer

from stages.commands import arguments
from stages.contract import collecting, escape
from stages.contract.errors import ParamsError, told
from stages.contract.escape import one_line

EPILOG = (
    "Exit codes: 0 done, 1 a mistake of Refit's own, 2 bad input, 3 already running, 4 something "
    "does not answer, 130 interrupted, 143 stopped."
)
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def refit() -> None:
    """Fine-tune pretrained models reproducibly: from labelled data to a champion that earned its
    place.
    """


@app.command(epilog=EPILOG)
def init(folder: arguments.NewFolder, as_json: arguments.AsJson = False) -> None:
    """Make a project of your own in a new folder; in one that it made, bring this Refit to the
    branch `refit`, to be merged.
    """
    from stages.commands import init as command

    with _busy("copying"):
        made = command.init(folder)
    _show(made, command.told, as_json)


@app.command(epilog=EPILOG)
def add(
    name: arguments.NewName,
    where: arguments.Where,
    base: arguments.Base = None,
    text: arguments.GuessedText = None,
    label: arguments.Label = None,
    problem: arguments.Problem = None,
    append: arguments.Append = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Look at labelled data, let DVC track it, and write a complete block of params.yaml for it."""
    if append:
        _append(name, where, (base, text, label, problem), as_json)
        return
    from stages.commands import add as command

    y = tuple(label) if label and label[1:] else label[0] if label else None
    with _busy(f"looking at {one_line(where, 60)}"):
        added = command.add(name, where, base, text, y, problem)
    _show(added, command.told, as_json)


def _append(name: str, where: str, stated: tuple[object, ...], as_json: bool) -> None:
    """Bring more rows of a task that is there."""
    from stages.commands import append as command

    if any(stated):
        raise ParamsError("--append brings rows for the task as it is; leave other options out")
    with _busy(f"looking at {one_line(where, 60)}"):
        done = command.append(name, where)
    _show(done, command.told, as_json)


@app.command(epilog=EPILOG)
def check(as_json: arguments.AsJson = False) -> None:
    """Say all that is wrong with params, data, servers and disk, before anything runs."""
    from stages.commands import check as command

    with _busy("checking"):
        findings = command.check()
    _show(findings, command.told, as_json)
    if not all(found.ok for found in findings):
        raise typer.Exit(2)


@app.command(epilog=EPILOG)
def params(task: arguments.AnyTask, as_json: arguments.AsJson = False) -> None:
    """Show every setting of a task, with its meaning."""
    from stages.commands import params as command

    _show(command.params(task), command.told, as_json)


@app.command(epilog=EPILOG)
def remove(
    task: arguments.AnyTask,
    data: arguments.WithData = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Take a task away: its block, what its stages wrote, and sources that no other task uses. The
    registry keeps its versions.
    """
    from stages.commands import remove as command

    _show(command.remove(task, data), command.told, as_json)


@app.command(epilog=EPILOG)
def calibrate(task: arguments.SplitTask, as_json: arguments.AsJson = False) -> None:
    """Measure with which threads, arithmetic, memory format and batch a task runs fastest here, and
    write them into params.yaml.
    """
    from stages.commands import calibrate as command

    with _busy("timing steps of training and of scoring"):
        found = command.calibrate(task)
    _show(found, command.told, as_json)


@app.command(epilog=EPILOG)
def search(
    task: arguments.SplitTask,
    minutes: arguments.Minutes = 10.0,
    trials: arguments.Trials = 30,
    dry_run: arguments.DryRun = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Try ways in which a task can learn, on validation alone, and write the cheapest that is as
    good as the best into params.yaml. Cut off, the same command goes on.
    """
    from stages.commands import search as command

    _show(command.search(task, minutes, trials, not dry_run), command.told, as_json)


@app.command(epilog=EPILOG)
def learning_curve(
    task: arguments.SplitTask,
    sizes: arguments.Sizes = 5,
    repeats: arguments.Repeats = 1,
    as_json: arguments.AsJson = False,
) -> None:
    """Measure how a task's score grows with its labels, and about how many the next hundredth
    would cost.
    """
    from stages.commands import learning_curve as command

    _show(command.learning_curve(task, sizes, repeats), command.told, as_json)


@app.command(epilog=EPILOG)
def status(as_json: arguments.AsJson = False) -> None:
    """Show each task: its stages, what is out of date and why, its champion and the last
    decision.
    """
    from stages.commands import status as command

    with _busy("asking DVC and MLflow"):
        tasks = command.status()
    _show(tasks, command.told, as_json)


@app.command(epilog=EPILOG)
def dag(task: arguments.OneTask = None, as_json: arguments.AsJson = False) -> None:
    """Show the stages of a task in the order in which they run: what each waits for, how long it
    took, and whether it is up to date.
    """
    from stages.commands import dag as command

    with _busy("asking DVC"):
        nodes = command.dag(task)
    _show(nodes, command.told, as_json)


@app.command(epilog=EPILOG)
def predict(
    model: arguments.AnyModel,
    source: arguments.Input = None,
    sample: arguments.Samples = None,
    out: arguments.Out = None,
    text: arguments.TrainedText = None,
    probabilities: arguments.Probabilities = False,
    stdin: arguments.StdinKind = "txt",
    log: arguments.Log = False,
    force: arguments.OverFile = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Predict for every row of a file, for stdin, or for samples; a bad row says why it is bad."""
    from stages.commands import predict as command

    samples = tuple(sample or ())
    asked = command.Asked(source, samples, stdin, text, out, probabilities, log, force)
    done = command.predict(model, asked)
    _show(done, command.told, as_json, sys.stdout if out else sys.stderr)


@app.command(epilog=EPILOG)
def drift(
    task: arguments.ServedTask,
    source: arguments.NewRows = None,
    text: arguments.TrainedText = None,
    logged: arguments.Logged = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Compare data with what the champion learned from."""
    from stages.commands import drift as command

    with _busy("comparing"):
        found = command.drift(task, source, text, logged)
    _show(found, command.told, as_json)


@app.command(epilog=EPILOG)
def profile(
    name: arguments.ProfileName,
    source: arguments.References,
    task: arguments.ProfiledTask,
    text: arguments.ToldText = None,
    classes: arguments.Classes = None,
    batchnorm: arguments.BatchNorm = False,
    force: arguments.OverProfile = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Write down what a domain looks like, so that validate can compare data with it."""
    from stages.commands import profile as command

    with _busy("running the base model"):
        made = command.profile(name, source, task, text, classes, batchnorm, force)
    _show(made, command.told, as_json)


@app.command(epilog=EPILOG)
def history(model: arguments.Model, as_json: arguments.AsJson = False) -> None:
    """Tell who was champion when: every move of the alias, who made it and why."""
    from stages.commands import history as command

    with _busy("asking MLflow"):
        found = command.history(model)
    _show(found, command.told, as_json)


@app.command(epilog=EPILOG)
def rollback(
    model: arguments.Model,
    to: arguments.To = None,
    why: arguments.Why = "rollback",
    as_json: arguments.AsJson = False,
) -> None:
    """Go back to an earlier champion; the version that is left is withdrawn and never returns by
    itself.
    """
    from stages.commands import rollback as command

    with _busy("verifying the model"):
        done = command.rollback(model, to, why)
    _show(done, command.told, as_json)


@app.command(epilog=EPILOG)
def promote(
    model: arguments.Model,
    number: arguments.Number,
    why: arguments.Why,
    as_json: arguments.AsJson = False,
) -> None:
    """Make a version champion by hand, a withdrawn one too; it stays so until a candidate beats
    it.
    """
    from stages.commands import promote as command
    from stages.commands import rollback

    with _busy("verifying the model"):
        done = command.promote(model, number, why)
    _show(done, rollback.told, as_json)


@app.command(epilog=EPILOG)
def adopt(
    task: arguments.EvaluatedTask,
    baseline: arguments.Baseline,
    as_json: arguments.AsJson = False,
) -> None:
    """Register a cheap baseline as a version of the task's model; `refit promote` makes it
    champion.
    """
    from stages.commands import adopt as command

    with _busy("fitting and registering"):
        done = command.adopt(task, baseline)
    _show(done, command.told, as_json)


@app.command(epilog=EPILOG)
def reuse(
    name: arguments.NewSource, model: arguments.OneVersion, as_json: arguments.AsJson = False
) -> None:
    """Bring a version to data/raw/NAME: the base model of another task, or a teacher."""
    from stages.commands import reuse as command

    with _busy("copying"):
        made = command.reuse(name, model)
    _show(made, command.told, as_json)


@app.command(epilog=EPILOG)
def lineage(model: arguments.OneVersion, as_json: arguments.AsJson = False) -> None:
    """Tell what a version was made from, and verify that it is all there; exits with 2 where a byte
    was changed.
    """
    from stages.commands import lineage as command

    with _busy("verifying model and data"):
        found = command.lineage(model)
    _show(found, command.told, as_json)
    if found.damaged:
        raise typer.Exit(2)


@app.command(epilog=EPILOG)
def impact(file: arguments.File, as_json: arguments.AsJson = False) -> None:
    """Find every registered version that was trained on a file or folder of data."""
    from stages.commands import impact as command

    with _busy("asking MLflow"):
        done = command.impact(file)
    _show(done, command.told, as_json)


@app.command(epilog=EPILOG)
def compare(
    candidate: arguments.OneVersion,
    baseline: arguments.OneVersion,
    data: arguments.Labelled = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Compare two versions on the same rows, with the evidence that the gate asks for."""
    from stages.commands import compare as command

    with _busy("scoring both"):
        found = command.compare(candidate, baseline, data)
    _show(found, command.told, as_json)


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr and an exit code."""
    collecting.seldom()
    escape.to_streams()
    # so that a command can remove what it has half made
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with told():
        app()


@contextmanager
def _busy(what: str) -> Generator[None]:
    """Show on a terminal what is being done."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(what)):
        yield


def _show(
    found: Any,
    lines: Callable[[Any], list[str]],
    as_json: bool,
    stream: TextIO | None = None,
) -> None:
    """Print what a command found: as one JSON document, or as the lines for a person.

    The stream is stdout unless the command has printed its data there.
    """
    for line in [_json(found)] if as_json else lines(found):
        print(line, file=stream)


def _json(found: Any) -> str:
    """Return a dataclass, or a list of them, as JSON."""
    many = (
        [dataclasses.asdict(item) for item in found]
        if isinstance(found, list)
        else dataclasses.asdict(found)
    )
    return json.dumps(many, indent=1, ensure_ascii=False, default=str)


if __name__ == "__main__":
    main()
