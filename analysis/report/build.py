"""Everything under `analysis/` and `figures/` of a run directory, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from analysis.figures import draw_figures
from analysis.load import load_run
from analysis.report import latex, markdown
from analysis.report.html import page
from analysis.report.parquet import write_requests, write_timeseries
from analysis.report.progress import ProgressBar
from analysis.report.terminal import print_summary
from analysis.summary import Summary, summarise
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record.run_directory import replace_file

__all__ = ["build_report"]


def build_report(path: Path, *, progress: bool, console: Console | None, solo: Sequence[Path] | None = None) -> Summary:
    """Read, compute, write and print; see `analysis.report_run`."""
    with ProgressBar(Console(stderr=True) if progress else None) as bar:
        run = load_run(path, bar.stage("reading records", 0.0, 0.6), solo=solo)
        summary = summarise(run, bar.stage("computing", 0.6, 0.85))
        report = run.path / "analysis" / "report.html"
        try:
            report.parent.mkdir(exist_ok=True)
            (run.path / "figures").mkdir(exist_ok=True)
            replace_file(report.with_name("summary.json"), summary.to_json())
            replace_file(report.with_name("summary.csv"), summary.to_csv().encode())
            write_requests(run, summary.content, report.with_name("requests.parquet"))
            write_timeseries(summary, report.with_name("timeseries.parquet"))
            pictures = list(draw_figures(summary, run.path / "figures", bar.stage("drawing", 0.85, 1.0)))
            replace_file(report, page(summary, pictures).encode())
            folder = report.parent
            replace_file(folder / "report.md", markdown.document(summary, pictures, folder).encode())
            replace_file(folder / "report.tex", latex.document(summary, pictures, folder).encode())
            replace_file(folder / "report-ieee.tex", latex.document(summary, pictures, folder, ieee=True).encode())
        except OSError as error:
            raise RunDirectoryError(
                f"{error.filename or run.path} can't be written: {error.strerror}; make room or mend its permissions"
            ) from error
    if console is not None:
        print_summary(summary, report, console)
    return summary
