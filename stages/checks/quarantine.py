"""List the rows that were set aside, so that a person can find and mend each one."""

import csv
from pathlib import Path

import pandas as pd

from stages.contract.escape import cell, extract


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write origin, code, reason and a short extract of x, safe to open in a spreadsheet."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["origin", "code", "reason", "extract"])
        for row in rows.itertuples():
            writer.writerow([cell(v) for v in (row.origin, row.code, row.reason, extract(row.x))])
