"""The arguments and options of the command `refit`, each with its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

AsJson = Annotated[
    bool, typer.Option("--json", help="Write one JSON document to stdout, for a machine.")
]

# ---- data to learn from --------------------------------------------------------------------------

NewFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder that is empty or not there yet.")
]
NewName = Annotated[str, typer.Argument(help="Name of the new source and task: a-z, 0-9 and _.")]
NewSource = Annotated[str, typer.Argument(help="Name of the new source: a-z, 0-9 and _.")]
Where = Annotated[
    str,
    typer.Argument(
        metavar="PATH|URL",
        help=(
            "A folder of texts or pictures (a folder a label), a table, https://, s3://, "
            "gs://, or hub:OWNER/NAME, also hub:OWNER/NAME@COMMIT."
        ),
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        help=(
            "The pretrained model: a source of params.yaml, a folder with config.json, or "
            "hub:OWNER/NAME, also hub:OWNER/NAME@COMMIT."
        )
    ),
]
GuessedText = Annotated[
    str | None, typer.Option(help="The column with the text, where it cannot be guessed.")
]
Label = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "The column with the label, where it cannot be guessed; several, once each, "
            "where each is a label of 0 or 1."
        )
    ),
]
Problem = Annotated[
    str | None,
    typer.Option(
        help=(
            "What is learned: classification, multi_label or regression, where it cannot be "
            "guessed."
        )
    ),
]

Append = Annotated[
    bool, typer.Option("--append", help="NAME is a task that is there; PATH has more of its rows.")
]

# ---- tasks ---------------------------------------------------------------------------------------

SplitTask = Annotated[str, typer.Argument(metavar="TASK", help="A task that split has run for.")]
Minutes = Annotated[float, typer.Option(min=0.1, help="Time for all trials together.")]
Trials = Annotated[int, typer.Option(min=1, help="Trials at most.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Leave params.yaml as it is.")]
Sizes = Annotated[
    int, typer.Option(min=2, max=12, help="Sizes: all train rows, half of them, a quarter, ...")
]
Repeats = Annotated[int, typer.Option(min=1, help="Draws of each size but all rows.")]
EvaluatedTask = Annotated[
    str, typer.Argument(metavar="TASK", help="A task that evaluate has run for.")
]
Baseline = Annotated[
    str,
    typer.Argument(
        metavar="BASELINE", help="One of its evaluate.baselines, such as tfidf_logistic."
    ),
]
AnyTask = Annotated[str, typer.Argument(metavar="TASK", help="A task of params.yaml.")]
OneTask = Annotated[
    str | None, typer.Argument(metavar="[TASK]", help="A task of params.yaml; all unless named.")
]
WithData = Annotated[
    bool, typer.Option("--data", help="Remove its raw data too, unless another task uses it.")
]
ServedTask = Annotated[str, typer.Argument(help="A task that has a champion.")]

# ---- new data ------------------------------------------------------------------------------------

AnyModel = Annotated[
    str,
    typer.Argument(help="TASK (its champion), TASK@VERSION, or a folder such as data/export/TASK."),
]
Input = Annotated[
    Path | None,
    typer.Argument(
        metavar="[INPUT]",
        help=".csv, .tsv, .jsonl, .txt (each also .gz), .parquet, a picture, a folder of pictures, "
        "or - for stdin.",
    ),
]
Samples = Annotated[
    list[str] | None,
    typer.Option("--sample", help="A text, or a picture's path, instead of INPUT; repeatable."),
]
StdinKind = Annotated[
    Literal["txt", "csv", "tsv", "jsonl"],
    typer.Option("--stdin", help="How stdin is written; in txt a line is a text."),
]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Add a column for each label's probability.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="A .parquet, .jsonl or .csv; without it JSON lines are printed."),
]
TrainedText = Annotated[
    str | None,
    typer.Option(help="The column with the text; else the one the task was trained on."),
]
Log = Annotated[
    bool,
    typer.Option("--log", help="Keep what was predicted in data/predict, for later drift checks."),
]
OverFile = Annotated[bool, typer.Option("--force", help="Write over an existing file.")]
NewRows = Annotated[
    Path | None,
    typer.Argument(
        metavar="[INPUT]",
        help="New rows: a table or a folder; else the data that validate saw last.",
    ),
]
Logged = Annotated[
    float | None,
    typer.Option(
        metavar="DAYS",
        min=0,
        max=36_500,
        help="The rows that `refit predict --log` kept in the last DAYS days.",
    ),
]

# ---- profiles ------------------------------------------------------------------------------------

ProfileName = Annotated[str, typer.Argument(help="What to call it: data/profiles/NAME.json.")]
References = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT...",
        help="Reference data: tables of texts, or folders of pictures, each a group.",
    ),
]
ProfiledTask = Annotated[
    str, typer.Option(help="The task whose base model, modality and sample are meant.")
]
ToldText = Annotated[
    str | None, typer.Option(help="The column with the text, where it cannot be guessed.")
]
Classes = Annotated[
    int | None,
    typer.Option(
        min=2, help="The base model was pretrained to tell so many classes, equally frequent."
    ),
]
BatchNorm = Annotated[
    bool,
    typer.Option(
        "--batchnorm", help="The base model's BatchNorm statistics are those of pretraining."
    ),
]
OverProfile = Annotated[bool, typer.Option("--force", help="Write over an existing profile.")]

# ---- registered versions -------------------------------------------------------------------------

Model = Annotated[
    str, typer.Argument(help="The name of a registered model, which is that of its task.")
]
OneVersion = Annotated[str, typer.Argument(help="MODEL (its champion), MODEL@champion or MODEL@N.")]
To = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=(
            "The version to go back to; else the champion before this one that was not withdrawn."
        ),
    ),
]
Number = Annotated[int, typer.Argument(metavar="N", min=1, help="The number of the version.")]
Why = Annotated[str, typer.Option(help="The reason, for the history.")]
File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="data/raw/SOURCE, a file below it, or a copy of either."),
]
Labelled = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="Labelled rows, with the task's own columns; else the task's test rows.",
    ),
]
