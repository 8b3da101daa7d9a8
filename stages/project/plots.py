"""Write the page in which `dvc plots` draws, with Vega inside: it opens without a network.

DVC's own page loads Vega from a CDN. `make setup` runs this module and names the page to DVC.
"""

from pathlib import Path

import vl_convert

PAGE = Path(".dvc/plots.html")
# The grammar of DVC's own templates is version 5 of Vega-Lite; this is its last.
VEGA_LITE = "5.21"


def write() -> None:
    """Write the page. DVC replaces what is in braces."""
    # its stub asks for the snippet, which the function does not
    scripts = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # pyright: ignore[reportCallIssue]
    PAGE.write_text(
        "<!DOCTYPE html>\n<html>\n<head>\n{refresh_tag}\n<meta charset='utf-8'>\n"
        f"<title>Plots</title>\n<script>{scripts}</script>\n</head>\n"
        "<body>\n{plot_divs}\n</body>\n</html>\n",
        "utf-8",
    )


if __name__ == "__main__":
    write()
