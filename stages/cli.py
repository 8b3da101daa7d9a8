"""The command `refit`.

It brings data, checks and shows the state of a project, and predicts. DVC runs the DAG.
"""

import dataclasses
import json
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.contract import escape
from stages.contract.errors import told
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
AsJson = Annotated[
    bool, typer.Option("--json", help="Write one JSON document to stdout, for a machine.")
]


Model = Annotated[
    str, typer.Argument(help="The name of a registered model, which is that of its task.")
]
OneVersion = Annotated[str, typer.Argument(help="MODEL (its champion), MODEL@champion or MODEL@N.")]


@app.callback()
def refit() -> None:
    """Fine-tune pretrained models reproducibly: from labelled data to a champion that earned its
    place.
    """


@app.command(epilog=EPILOG)
def add(
    name: Annotated[str, typer.Argument(help="Name of the new source and task: a-z, 0-9 and _.")],
    where: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URL",
            help=(
                "A folder of texts or pictures (a folder a label), a table, https://, s3://, "
                "gs://, hub:OWNER/NAME@COMMIT."
            ),
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help=(
                "The pretrained model: a source of params.yaml, a folder with config.json, or "
                "hub:OWNER/NAME@COMMIT."
            )
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="The column with the text, where it cannot be guessed.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "The column with the label, where it cannot be guessed; several, once each, "
                "where each is a label of 0 or 1."
            )
        ),
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(
            help=(
                "What is learned: classification, multi_label or regression, where it cannot be "
                "guessed."
            )
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at labelled data, let DVC track it, and write a complete block of params.yaml for it."""
    from stages.commands import add as command

    with _busy(f"looking at {one_line(where, 60)}"):
        added = command.add(
            name,
            where,
            base,
            text,
            tuple(label) if label and label[1:] else label[0] if label else None,
            problem,
        )
    if as_json:
        return _json(added)
    print(f"read: {one_line(added.read, 300)}")
    for note in added.notes:
        print(f"note: {one_line(note, 400)}")
    for why in added.chosen:
        print(f"chosen: {one_line(why, 400)}")
    print(
        f"data/raw/{name}: {added.problem}, {added.rows:,} rows of {added.of_y}, {added.bad:,} bad"
    )
    if added.encoding != "utf-8":
        print(
            f"read as {added.encoding}, which is what it looks like; tasks.{name}.data.encoding "
            "says so"
        )
    if added.unread:
        print(
            f"not read: {one_line(', '.join(added.unread), 300)} (other columns, or no part "
            "beside train)"
        )
    print(
        f"params.yaml: tasks.{name} is written, every setting with a comment; the base model is "
        f"{added.base}"
    )
    print(f"how long it takes: {one_line(added.takes, 300)}")
    print(f"next: dvc repro register@{name}")
    return None


@app.command(epilog=EPILOG)
def check(as_json: AsJson = False) -> None:
    """Say all that is wrong with params, data, servers and disk, before anything runs."""
    from stages.commands import check as command

    with _busy("checking"):
        findings = command.check()
    if as_json:
        _json(findings)
    else:
        for found in findings:
            print(
                f"{'ok   ' if found.ok else 'WRONG'} {one_line(found.what, 40):<28} "
                f"{one_line(found.fact)}"
            )
    if not all(found.ok for found in findings):
        raise typer.Exit(2)


@app.command(epilog=EPILOG)
def calibrate(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task that split has run for.")],
    as_json: AsJson = False,
) -> None:
    """Measure with which threads, arithmetic, memory format and batch a task runs fastest here, and
    write them into params.yaml.
    """
    from stages.commands import calibrate as command

    with _busy("timing steps of training and of scoring"):
        found = command.calibrate(task)
    if as_json:
        return _json(found)
    for trial in found.trials:
        seconds = (
            f"training {trial.training:.2f}"
            if trial.training is not None
            else f"scoring {trial.scoring:.2f}"
        )
        print(f"{seconds} s for 1,000 rows: {_compute(trial.compute)}")
    print(
        f"params.yaml: tasks.{found.task}.compute "
        f"{'stays' if found.compute == found.before else 'is now'} {_compute(found.compute)}"
    )
    return None


@app.command(epilog=EPILOG)
def status(as_json: AsJson = False) -> None:
    """Show each task: its stages, what is out of date and why, its champion and the last
    decision.
    """
    from stages.commands import status as command

    with _busy("asking DVC and MLflow"):
        tasks = command.status()
    if as_json:
        return _json(tasks)
    for task in tasks:
        print(f"{task.task}: {one_line(task.champion)}")
        for line in (*task.stages, *task.decision, *(f"next: {what}" for what in task.next)):
            print(f"  {one_line(line)}")
    return None


@app.command(epilog=EPILOG)
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="TASK (its champion), TASK@VERSION, or a folder such as data/finetune/TASK."
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help=".csv, .tsv, .jsonl, .txt (each also .gz) or .parquet."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A .parquet or .jsonl; INPUT.predicted.parquet unless named."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="The column with the text; else the one the task was trained on."),
    ] = None,
    log: Annotated[
        bool,
        typer.Option(
            "--log", help="Keep what was predicted in data/predict, for later drift checks."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict a label for every row of a file; a bad row costs one row and says why."""
    from stages.commands import predict as command

    done = command.predict(model, source, out, text, log, force)
    if as_json:
        return _json(done)
    print(
        f"{done.out}: {done.rows:,} rows by {done.model}, {done.bad:,} of them bad "
        f"(see code and reason), {done.seconds:.1f} s"
    )
    print(f"read: {one_line(done.read, 200)}")
    if done.log:
        print(f"kept in {done.log}")
    return None


@app.command(epilog=EPILOG)
def drift(
    task: Annotated[str, typer.Argument(help="A task that has a champion.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[INPUT]",
            help="New rows: a table or a folder; else the data that validate saw last.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="The column with the text; else the one the task was trained on."),
    ] = None,
    logged: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS",
            min=0,
            max=36_500,
            help="The rows that `refit predict --log` kept in the last DAYS days.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare data with what the champion learned from."""
    from stages.commands import drift as command

    with _busy("comparing"):
        found = command.drift(task, source, text, logged)
    if as_json:
        return _json(found)
    if found.read:
        print(f"read: {one_line(found.read, 200)}")
    for measure in found.measures:
        print(f"{'FAR  ' if measure.far else 'near '} {one_line(str(measure), 300)}")
    print(
        f"{one_line(found.data, 200)}: {found.rows:,} rows, {len(found.far)} of "
        f"{len(found.measures)} measures beyond what {found.champion}'s own data shows"
    )
    return None


@app.command(epilog=EPILOG)
def profile(
    name: Annotated[str, typer.Argument(help="What to call it: data/profiles/NAME.json.")],
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Reference data: tables of texts, or folders of pictures, each a group.",
        ),
    ],
    task: Annotated[
        str, typer.Option(help="The task whose base model, modality and sample are meant.")
    ],
    text: Annotated[
        str | None, typer.Option(help="The column with the text, where it cannot be told.")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2, help="The base model was pretrained to tell so many classes, equally frequent."
        ),
    ] = None,
    batchnorm: Annotated[
        bool,
        typer.Option(
            "--batchnorm", help="The base model's BatchNorm statistics are those of pretraining."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing profile.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write down what a domain looks like, so that validate can compare data with it."""
    from stages.commands import profile as command

    with _busy("running the base model"):
        made = command.profile(name, source, task, text, classes, batchnorm, force)
    if as_json:
        return _json(made)
    of = one_line(", ".join(f"{rows:,} of {name}" for name, rows in made.rows.items()), 300)
    print(f"{made.profile}: {sum(made.rows.values()):,} rows ({of}), {made.size / 1000:.0f} kB")
    print(f"next: name it in params.yaml: validate.domain.profile: {name}")
    return None


@app.command(epilog=EPILOG)
def history(model: Model, as_json: AsJson = False) -> None:
    """Tell who was champion when: every move of the alias, who made it and why."""
    from stages.commands import history as command

    with _busy("asking MLflow"):
        found = command.history(model)
    if as_json:
        return _json(found)
    for move in found.moves:
        print(_moved(move))
    print(
        f"{found.model}: "
        f"{f'version {found.champion} is champion' if found.champion else 'no champion'}, "
        f"moves of the alias: {len(found.moves)}"
    )
    return None


@app.command(epilog=EPILOG)
def rollback(
    model: Model,
    to: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=(
                "The version to go back to; else the champion before this one that was not "
                "withdrawn."
            ),
        ),
    ] = None,
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "rollback",
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier champion; the version that is left is withdrawn and never returns by
    itself.
    """
    from stages.commands import rollback as command

    with _busy("verifying the model"):
        done = command.rollback(model, to, why)
    return _json(done) if as_json else print(f"{done.model}: {_moved(done.move)}")


@app.command(epilog=EPILOG)
def promote(
    model: Model,
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="The number of the version.")],
    why: Annotated[str, typer.Option(help="The reason, for the history.")],
    as_json: AsJson = False,
) -> None:
    """Make a version champion by hand, a withdrawn one too; it stays so until a candidate beats
    it.
    """
    from stages.commands import promote as command

    with _busy("verifying the model"):
        done = command.promote(model, number, why)
    return _json(done) if as_json else print(f"{done.model}: {_moved(done.move)}")


@app.command(epilog=EPILOG)
def adopt(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task that evaluate has run for.")],
    baseline: Annotated[
        str,
        typer.Argument(
            metavar="BASELINE", help="One of its evaluate.baselines, such as tfidf_logistic."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Register a cheap baseline as a version of the task's model; `refit promote` makes it
    champion.
    """
    from stages.commands import adopt as command

    with _busy("fitting and registering"):
        done = command.adopt(task, baseline)
    if as_json:
        return _json(done)
    number = done.model.partition("@")[2]
    return print(
        f"{done.model}: {done.baseline}, {done.metric} {done.score:.4f} on the test rows; "
        f"`refit promote {task} {number} --why TEXT` makes it champion"
    )


@app.command(epilog=EPILOG)
def lineage(model: OneVersion, as_json: AsJson = False) -> None:
    """Tell what a version was made from, and verify that it is all there; exits with 2 where a byte
    was changed.
    """
    from stages.commands import lineage as command

    with _busy("verifying model and data"):
        found = command.lineage(model)
    if as_json:
        _json(found)
    else:
        print(found.model)
        for line in command.told(found):
            print(f"  {one_line(line)}")
    if found.damaged:
        raise typer.Exit(2)


@app.command(epilog=EPILOG)
def impact(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="data/raw/SOURCE, a file below it, or a copy of either."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Find every registered version that was trained on a file or folder of data."""
    from stages.commands import impact as command

    with _busy("asking MLflow"):
        done = command.impact(file)
    if as_json:
        return _json(done)
    for found in done.found:
        print(
            f"{one_line(found.version, 80)}{' (champion)' if found.champion else ''}: "
            f"{one_line(found.source, 200)} {one_line(found.md5, 60)}"
        )
    for md5, names in done.untold.items():
        print(
            f"cannot tell: {one_line(', '.join(names), 300)}: the list of files of "
            f"{one_line(md5, 60)} is not in DVC's cache here; `dvc fetch` at its commit"
        )
    print(f"{one_line(done.file, 200)} ({done.md5}): {len(done.found)} versions were trained on it")
    return None


@app.command(epilog=EPILOG)
def compare(
    candidate: OneVersion,
    baseline: OneVersion,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Labelled rows, with the task's own columns; else the task's test rows.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions on the same rows, with the evidence that the gate asks for."""
    from stages.commands import compare as command

    with _busy("scoring both"):
        found = command.compare(candidate, baseline, data)
    if as_json:
        return _json(found)
    of, out = found.evidence, f", {found.left_out:,} left out" if found.left_out else ""
    print(f"{one_line(found.data, 200)}: {found.rows:,} rows{out}")
    print(
        f"{of.metric}: {found.candidate} {of.candidate:.4f}, {found.baseline} {of.baseline:.4f}, "
        f"difference {of.difference:+.4f}"
    )
    print(
        f"with {1 - found.level:.1%} confidence at least {of.lower:+.4f}, and with the same at "
        f"most {of.upper:+.4f}; the gate's margin is {found.margin:g}"
    )
    return None


def main() -> None:
    """Run the command; an error that the user can mend is one line on stderr and an exit code."""
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


def _moved(move: dict[str, Any]) -> str:
    """Return a move of the alias as one line."""
    left, reached = (f"version {move[key]}" if move[key] else "none" for key in ("from", "to"))
    return one_line(f"{move['when']}  {left} -> {reached}  by {move['who']}: {move['why']}")


def _compute(compute: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(compute).items())


def _json(found: Any) -> None:
    """Write a dataclass, or a list of them, as JSON."""
    many = (
        [dataclasses.asdict(item) for item in found]
        if isinstance(found, list)
        else dataclasses.asdict(found)
    )
    print(json.dumps(many, indent=1, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
