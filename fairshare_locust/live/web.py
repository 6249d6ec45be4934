"""The live view in Locust's web UI: the page /fairshare, the tab "Tenants", the links to the runs' files.

/fairshare                      the page
/fairshare/live.json            the snapshot, and the session's runs under `runs`
/fairshare/metrics              Prometheus text
/fairshare/runs/<run>/<file>    a file of a run of this session, of those worth showing

All are GET, below Locust's base path, and as open or closed as Locust's own pages.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import orjson
from flask import Blueprint, Flask, Response, jsonify, request
from locust.web import WebUI

from analysis.report.environment import script
from fairshare_locust.errors import FairshareError
from fairshare_locust.live.profiles import checked_form

__all__ = ["RunLink", "check_start", "install", "tenant_rows"]

Snapshot = Mapping[str, Any]

_TAB = "tenants"
_REPORT = "analysis/report.html"
_TYPES = {
    _REPORT: "text/html; charset=utf-8",
    "analysis/summary.json": "application/json",
    "analysis/summary.csv": "text/csv; charset=utf-8",
    "requests.jsonl": "application/jsonl; charset=utf-8",
    "run.json": "application/json",
    "profile.resolved.yaml": "text/plain; charset=utf-8",
}
_FIGURE = re.compile(r"figures/[A-Za-z0-9_-]+\.png")
_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

_COLUMNS = (
    ("tenant", "Tenant"),
    ("span", "Over"),
    ("in_flight", "In flight"),
    ("offered_per_s", "Offered (1/s)"),
    ("requests_per_s", "Achieved (1/s)"),
    ("output_tokens_per_s", "Output tokens/s"),
    ("ttft_p50", "TTFT p50 (ms)"),
    ("ttft_p99", "TTFT p99 (ms)"),
    ("tpot_p50", "TPOT p50 (ms)"),
    ("slo", "SLO attainment (ratio)"),
    ("failed", "Failed"),
    ("jain", "Jain index"),
    ("lag", "Client lag p99 (ms)"),
    ("cpu", "Client CPU p95 (cores)"),
)


@dataclass(frozen=True)
class RunLink:
    """A run of this session: its directory, and once it is analysed its `verdict` (status, reasons)."""

    path: Path
    verdict: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.path.name

    def file(self, name: str) -> Path | None:
        """A file worth showing, if it is there; None for any other name, and for what a link leads out of the run."""
        if name not in _TYPES and not _FIGURE.fullmatch(name):
            return None
        try:
            path = (self.path / name).resolve(strict=True)
            inside = path.is_relative_to(self.path.resolve(strict=True))
        except (OSError, RuntimeError):  # not there (yet); links in a circle
            return None
        return path if inside and path.is_file() else None

    def files(self) -> list[str]:
        """Names of the files to show that are there."""
        try:
            figures = sorted(f"figures/{path.name}" for path in (self.path / "figures").iterdir())
        except OSError:
            figures = []
        return [name for name in (*_TYPES, *figures) if self.file(name) is not None]


def install(
    web_ui: WebUI,
    current: Callable[[], Snapshot | None],
    runs: Callable[[], list[RunLink]],
    metrics: Callable[[], str],
) -> None:
    """Add our routes and the tab to Locust's web UI; to be called once, before or while it serves.

    Args:
        web_ui: Locust's.
        current: the live view's snapshot of the run that is going on, or was the last; None before the first.
        runs: the runs of this session, oldest first.
        metrics: the same figures as Prometheus text.
    """
    app = _app(web_ui)
    page, policy = _page()
    blueprint = Blueprint("fairshare", __name__, url_prefix=_base_path(app) or None)

    def get(rule: str, view: Callable[..., Response]) -> None:
        # No automatic OPTIONS: it would answer without a login.
        blueprint.add_url_rule(
            rule,
            view.__name__,
            _as_open_as_locust(web_ui, view),
            methods=["GET"],
            provide_automatic_options=False,
        )

    def live_page() -> Response:
        return _response(page, "text/html; charset=utf-8", policy)

    def live_json() -> Response:
        content = {**(current() or {}), "runs": [_described(run) for run in runs()]}
        return _response(orjson.dumps(content), "application/json")

    def live_metrics() -> Response:
        return _response(metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")

    def run_file(run: str, name: str) -> Response:
        path = next((link.file(name) for link in runs() if link.name == run), None)
        return _not_found() if path is None else _file_response(path, name)

    get("/fairshare", live_page)
    get("/fairshare/live.json", live_json)
    get("/fairshare/metrics", live_metrics)
    get("/fairshare/runs/<run>/<path:name>", run_file)
    app.register_blueprint(blueprint)

    web_ui.template_args["extended_tabs"] = [
        *web_ui.template_args.get("extended_tabs", []),
        {"title": "Tenants", "key": _TAB},
    ]
    structure = [{"key": key, "title": title} for key, title in _COLUMNS]
    web_ui.template_args["extended_tables"] = [
        *web_ui.template_args.get("extended_tables", []),
        {"key": _TAB, "structure": structure},
    ]
    update = web_ui.update_template_args

    def update_template_args() -> None:
        update()  # type: ignore[no-untyped-call]
        # Locust misses a host where tenants have none of their own: the profile says whom they ask.
        web_ui.template_args["missing_host_warning"] = False

    web_ui.update_template_args = update_template_args  # type: ignore[method-assign]
    others_links = list(web_ui.template_args.get("extended_csv_files", []))

    @app.before_request
    def link_files() -> None:
        if request.endpoint == "locust.index":  # its page is made of the template's arguments
            web_ui.template_args["extended_csv_files"] = [*others_links, *_links(runs())]

    @app.after_request
    def add_tenants(response: Response) -> Response:
        # Not to the answer that sends a stranger to the login. Locust hands out one response for 2 s: replace our key.
        if request.endpoint == "locust.request_stats" and response.status_code == 200 and response.is_json:
            report = orjson.loads(response.get_data())
            others = [table for table in report.get("extended_stats", []) if table.get("key") != _TAB]
            report["extended_stats"] = [*others, {"key": _TAB, "data": tenant_rows(current())}]
            response.set_data(orjson.dumps(report))
        return response


def check_start(
    web_ui: WebUI,
    choices: Callable[[], Mapping[str, Path]],
    other_fields: Collection[str] = (),
    prepare: Callable[[Mapping[str, Any]], None] = lambda _: None,
    undo: Callable[[], None] = lambda: None,
) -> None:
    """Have what is posted to Locust's /swarm checked before Locust acts on any of it; the page shows what is wrong.

    Args:
        web_ui: Locust's.
        choices: the profiles on offer, as `profile_choices` gives them.
        other_fields: fields of the form that are neither Locust's nor ours.
        prepare: is given the checked fields (texts; of user classes a list), makes ready for what they ask for, and
            raises FairshareError for what can't be.
        undo: is called when Locust does not start what was prepared.
    """
    app = _app(web_ui)
    start = app.view_functions["locust.swarm"]

    def checked_start() -> Any:
        try:
            for name in request.form:
                if name != "user_classes" and len(request.form.getlist(name)) > 1:
                    raise FairshareError(f"field {name[:60]!r}: found more than once; must be there once")
            checked_form(request.form.to_dict(), choices(), other_fields)
            chosen = {"user_classes": request.form.getlist("user_classes")} if "user_classes" in request.form else {}
            prepare({**request.form.to_dict(), **chosen})
        except FairshareError as error:
            return jsonify({"success": False, "message": str(error), "host": web_ui.environment.host})
        parsed: Any = web_ui.environment.parsed_options
        if not request.form.get("run_time"):
            parsed.run_time = None  # else the last run's would hold on
        answer: Any = start()
        web_ui._cancel_run_time_timer()  # type: ignore[no-untyped-call] # it is the run's duration; the run ends itself
        if not (answer.is_json and (answer.get_json() or {}).get("success")):
            undo()
        return answer

    app.view_functions["locust.swarm"] = _as_open_as_locust(web_ui, checked_start)


def tenant_rows(snapshot: Snapshot | None) -> list[dict[str, Any]]:
    """Rows of the tab: each tenant and the total over the last 10 s, then over the whole run. Undefined is a dash.

    Locust's table sorts by `name`, so `name` is the place of a row.
    """
    if not snapshot:
        return []
    tenants = [{**tenant, "label": tenant["id"]} for tenant in snapshot.get("tenants", [])]
    total = {**snapshot.get("total", {}), "label": "all tenants"}
    health, fairness = snapshot.get("health") or {}, snapshot.get("fairness") or {}
    rows: list[dict[str, Any]] = []
    for span, title in (("window", "last 10 s"), ("whole", "whole run")):
        for entry in (*tenants, total):
            row = _row(entry, entry.get(span) or {})
            if entry is total and span == "window":
                row["jain"] = _rounded(fairness.get("jain_throughput"), 3)
                row["lag"] = _rounded(health.get("event_loop_lag_ms_p99"), 1)
                row["cpu"] = _rounded(health.get("cpu_share_p95"), 2)
            rows.append({**row, "name": f"{len(rows):04}", "tenant": entry["label"], "span": title})
    return rows


def _row(entry: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    ttft, tpot = figures.get("ttft_ms") or {}, figures.get("tpot_ms") or {}
    failed = figures.get("failed")
    return {
        "in_flight": _rounded(entry.get("in_flight"), 0),
        "offered_per_s": _rounded(figures.get("offered_per_s"), 2),
        "requests_per_s": _rounded(figures.get("requests_per_s"), 2),
        "output_tokens_per_s": _rounded(figures.get("output_tokens_per_s"), 1),
        "ttft_p50": _rounded(ttft.get("p50"), 0),
        "ttft_p99": _rounded(ttft.get("p99"), 0),
        "tpot_p50": _rounded(tpot.get("p50"), 1),
        "slo": _rounded(figures.get("slo_attainment"), 3),
        "failed": _rounded(None if failed is None else sum(failed.values()), 0),
        "jain": "",
        "lag": "",
        "cpu": "",
    }


def _rounded(value: float | None, places: int) -> float | str:
    # Rounded here: Locust's table would show an undefined figure that it rounds as 0.
    return "–" if value is None else round(value, places or None)


def _described(run: RunLink) -> dict[str, Any]:
    files = [{"name": name, "href": _href(run, name)} for name in run.files()]
    report = _href(run, _REPORT) if run.file(_REPORT) is not None else None
    return {"name": run.name, "verdict": run.verdict, "report": report, "files": files}


def _links(runs: list[RunLink]) -> list[dict[str, str]]:
    """Links for Locust's tab of downloads: the live page, then every run's files, the latest run's first."""
    page = {"href": "./fairshare", "title": "Tenants: live charts and reports"}
    return [page] + [
        {"href": f"./{_href(run, name)}", "title": f"{run.name}: {name}"}
        for run in reversed(runs)
        for name in run.files()
        if not _FIGURE.fullmatch(name)
    ]


def _href(run: RunLink, name: str) -> str:
    """Seen from Locust's page, and from ours, which stands beside it."""
    return f"fairshare/runs/{quote(run.name, safe='')}/{quote(name)}"


def _response(content: bytes, content_type: str, policy: str = f"{_NOTHING_ELSE}; sandbox") -> Response:
    response = Response(content, content_type=content_type)
    return _guarded(response, policy)


def _file_response(path: Path, name: str) -> Response:
    """The file as it is now: requests.jsonl may grow while it is sent, and its announced length must hold."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the server closes it when the response is sent
    except OSError:
        return _not_found()
    length = file.seek(0, 2)
    file.seek(0)
    response = Response(_chunks(file, length), content_type=_TYPES.get(name, "image/png"))
    response.call_on_close(file.close)
    response.content_length = length
    if name == "requests.jsonl":
        response.headers["Content-Disposition"] = "attachment; filename=requests.jsonl"
    return _guarded(response, _report_policy() if name == _REPORT else f"{_NOTHING_ELSE}; sandbox")


@cache
def _report_policy() -> str:
    """A report may run the script that all reports have, and no other."""
    return f"{_NOTHING_ELSE}; style-src 'unsafe-inline'; script-src {_hash(script())}; img-src data:"


def _not_found() -> Response:
    # Not abort(): Locust's guard answers any exception with 200 and its text.
    response = _response(b"no such file of a run of this session", "text/plain; charset=utf-8")
    response.status_code = 404
    return response


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (chunk := file.read(min(length, 1 << 16))):
        length -= len(chunk)
        yield chunk


def _guarded(response: Response, policy: str) -> Response:
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


def _page() -> tuple[bytes, str]:
    """The page with its style and script inside, and the policy that admits just these."""
    folder = Path(__file__).parent
    template, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    page = template.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        f"{_NOTHING_ELSE}; style-src {_hash(style)}; script-src {_hash(script)}; "
        "connect-src 'self'; frame-src 'self'; img-src data:"
    )
    return page.encode(), policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _app(web_ui: WebUI) -> Flask:
    assert web_ui.app is not None  # it is set as long as a WebUI exists
    return web_ui.app


def _as_open_as_locust(web_ui: WebUI, view: Callable[..., Any]) -> Callable[..., Any]:
    """The view behind Locust's login, where there is one."""
    guard: Any = web_ui.auth_required_if_enabled  # it has no types
    guarded: Callable[..., Any] = guard(view)
    return guarded


def _base_path(app: Flask) -> str:
    """Locust's `--web-base-path`, as its own index page has it."""
    return next(app.url_map.iter_rules("locust.index")).rule.rstrip("/")
