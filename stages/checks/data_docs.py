"""Write Great Expectations' Data Docs as pages that open offline.

There is a page for each suite, and an index.

Great Expectations' own pages ask four networks for their style, their icons and the script that
draws their charts. These pages contain Bootstrap's style and draw charts with it alone, and a
Content-Security-Policy keeps the browser from fetching or running anything. Equal results give
equal bytes.
"""

import re
from html import escape
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_suffix(".html")
# a file of a package that is never imported
BOOTSTRAP = "flask_bootstrap/static/bootstrap4/css/bootstrap.min.css"
TRUSTED = "html_success_icon"  # the one parameter that Great Expectations itself fills with markup
OUTSIDE = re.compile(r"url\('https?:[^)]*\)")  # a logo in the style
ESCAPED_TWICE = re.compile(r"&amp;(amp|lt|gt|quot|#x27|#39);")


def write(found: dict[str, Any], folder: Path) -> None:
    """Write NAME.html for each suite, and index.html, into a folder.

    found maps the name of a suite to its ExpectationSuiteValidationResult.
    """
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    folder.mkdir(parents=True)
    templates = _templates()
    template, style = templates.get_template("refit.j2"), _style(templates)
    renderer = ValidationResultsPageRenderer(run_info_at_end=True)
    suites = [_counted(name, result.statistics) for name, result in found.items()]
    for name, result in [("index", None), *found.items()]:
        document = renderer.render(result).to_json_dict() if result else {"sections": []}
        written = template.render(_escaped(document), suites=suites, suite=name, style=style)
        (folder / f"{name}.html").write_text(ESCAPED_TWICE.sub(r"&\1;", written), encoding="utf-8")


def _counted(name: str, of: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "met": of["successful_expectations"],
        "all": of["evaluated_expectations"],
    }


def _templates() -> Any:
    """Return Great Expectations' templates with Refit's page and graph before them."""
    from great_expectations.render.view.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader

    templates, numbers = DefaultJinjaPageView().env, count(1)
    page, graph = TEMPLATE.read_text("utf-8").split("<!-- graph -->\n")
    templates.loader = ChoiceLoader(
        [DictLoader({"refit.j2": page, "graph.j2": graph}), *filter(None, [templates.loader])]
    )
    templates.filters["generate_html_element_uuid"] = lambda prefix: f"{prefix}{next(numbers)}"
    return templates


def _style(templates: Any) -> str:
    """Return Bootstrap's style and Great Expectations' own, without what lies elsewhere."""
    bootstrap = Path(str(metadata.distribution("bootstrap-flask").locate_file(BOOTSTRAP)))
    own = templates.get_template("data_docs_default_styles.css").render()
    return bootstrap.read_text("utf-8") + OUTSIDE.sub("none", own)


def _escaped(tree: Any) -> Any:
    """Return the document with every text escaped and every link removed.

    Only some of Great Expectations' templates escape text, and the links lead to pages that do not
    exist here.
    """
    if isinstance(tree, dict):
        return {
            key: value if key == TRUSTED else "" if key == "href" else _escaped(value)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_escaped(value) for value in tree]
    return escape(tree) if isinstance(tree, str) else tree
