"""Writes Great Expectations' Data Docs as pages that open offline: a page a suite, and an index.

Great Expectations' own pages ask four networks for their style, their icons and the script that draws their charts.
Here Bootstrap's style stands inside the page, charts are drawn by it alone, and a Content-Security-Policy lets a browser
fetch and run nothing. Equal results give equal bytes.
"""

import re
from html import escape
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_suffix(".html")
BOOTSTRAP = (
    "flask_bootstrap/static/bootstrap4/css/bootstrap.min.css"  # the package is never imported
)
TRUSTED = "html_success_icon"  # the one parameter that Great Expectations itself fills with markup
OUTSIDE = re.compile(r"url\('https?:[^)]*\)")  # a logo in the style
ESCAPED_TWICE = re.compile(r"&amp;(amp|lt|gt|quot|#x27|#39);")


def write(found: dict[str, Any], folder: Path) -> None:
    """Write NAME.html for each suite's ExpectationSuiteValidationResult by name, and index.html, into a folder."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader

    folder.mkdir(parents=True)
    view, numbers = DefaultJinjaPageView(), count(1)
    page, graph = TEMPLATE.read_text("utf-8").split("<!-- graph -->\n")
    view.env.loader = ChoiceLoader(
        [DictLoader({"refit.j2": page, "graph.j2": graph}), *filter(None, [view.env.loader])]
    )
    view.env.filters["generate_html_element_uuid"] = lambda prefix: f"{prefix}{next(numbers)}"
    bootstrap = Path(
        str(metadata.distribution("bootstrap-flask").locate_file(BOOTSTRAP))
    ).read_text("utf-8")
    style = bootstrap + OUTSIDE.sub(
        "none", view.env.get_template("data_docs_default_styles.css").render()
    )
    template, renderer = (
        view.env.get_template("refit.j2"),
        ValidationResultsPageRenderer(run_info_at_end=True),
    )
    suites = [
        {
            "name": name,
            "met": of.statistics["successful_expectations"],
            "all": of.statistics["evaluated_expectations"],
        }
        for name, of in found.items()
    ]
    for name, of in [("index", None), *found.items()]:
        document = renderer.render(of).to_json_dict() if of else {"sections": []}
        written = template.render(_escaped(document), suites=suites, suite=name, style=style)
        (folder / f"{name}.html").write_text(ESCAPED_TWICE.sub(r"&\1;", written), encoding="utf-8")


def _escaped(tree: Any) -> Any:
    """Return the document with every text escaped, as only some of Great Expectations' templates do, and without addresses of pages it lacks."""
    if isinstance(tree, dict):
        return {
            key: value if key == TRUSTED else "" if key == "href" else _escaped(value)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_escaped(value) for value in tree]
    return escape(tree) if isinstance(tree, str) else tree
