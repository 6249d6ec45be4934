"""Environment: what the templates of all pages share, which are filters, the style and the script."""

from __future__ import annotations

from pathlib import Path

import jinja2
import markupsafe

from analysis.metrics import METRICS
from analysis.report import numbers
from analysis.report.definitions import definition

__all__ = ["environment", "script", "style"]


def environment() -> jinja2.Environment:
    """Templates beside this module. Whatever comes from a run is escaped; a page that lacks a value raises.

    A template says `<style>{{ style }}</style>` in its head and `<script>{{ script }}</script>` at the end of its
    body, gives headings `title="{{ metric | definition }}"`, and tables that may be sorted the class `sortable`.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": numbers.number,
        "small": numbers.small,
        "count": numbers.count,
        "ratio": numbers.ratio,
        "share": numbers.share,
        "percentile": numbers.percentile,
        "key": numbers.sort_key,
        "spread": numbers.spread,
        "definition": definition,
    }
    made.globals |= {
        "metrics": METRICS,
        "style": markupsafe.Markup(style()),
        "script": markupsafe.Markup(script()),
    }
    return made


def script() -> str:
    """The script of every page, as it stands in it: a server that admits no other can do so by its hash."""
    return _beside("page.js")


def style() -> str:
    """The style of every page."""
    return _beside("style.css")


def _beside(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
