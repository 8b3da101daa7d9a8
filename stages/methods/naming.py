"""Write texts about labels, by templates: what their names alone say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stages.contract.protocols import Start


def texts(
    labels: Sequence[str], templates: Sequence[str], descriptions: Mapping[str, str]
) -> list[str]:
    """Return each template's text about each label, a label's texts together.

    {label} is its name, in which _ and - become spaces, and {description} what is said of it, or
    else its name.
    """
    made = list[str]()
    for label in labels:
        name = label.replace("_", " ").replace("-", " ")
        said = descriptions.get(label, name)
        made += [
            said.join(name.join(part.split("{label}")) for part in template.split("{description}"))
            for template in templates
        ]
    return made


def encoded(start: Start, written: list[str]) -> tuple[list[Any], list[int]]:
    """Return the model's inputs for texts, and their lengths."""
    rows = start.of_x.encoding.encode(pd.DataFrame({"x": written}), start.processor, start.settings)
    return [rows[i] for i in range(len(rows))], start.of_x.encoding.lengths(rows)
