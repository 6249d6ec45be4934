"""Our routes in Locust's web UI: what they answer, to whom, and what they never give away."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask_login  # type: ignore[import-untyped]
import pytest
from flask import session
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from locust.env import Environment
from locust.event import Events
from locust.web import WebUI

from analysis.report.environment import script
from fairshare_locust.live.profiles import profile_choices
from fairshare_locust.live.web import RunLink, check_start, install, tenant_rows
from tests.live.snapshots import snapshot

ROUTES = ["/fairshare", "/fairshare/live.json", "/fairshare/metrics", "/fairshare/runs/one/run.json"]


class _Session:
    """A web UI with our part in it; `current` and `runs` are what it shows."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.current: dict[str, Any] | None = None
        self.runs: list[RunLink] = []
        options = SimpleNamespace(fairshare_profile="profiles/demo.yaml", num_users=1, spawn_rate=1.0, csv_prefix=None)
        options.stats_history_enabled = options.run_time = None
        made: Any = Environment, Events  # Locust's have no types
        environment = made[0](events=made[1](), parsed_options=options)
        environment.create_local_runner()
        self.options = options
        self.started: list[dict[str, str]] = []
        self.web_ui = WebUI(environment, "127.0.0.1", 0, delayed_start=True, **arguments)
        install(self.web_ui, lambda: self.current, lambda: self.runs, lambda: "fairshare_in_flight 3\n")
        assert self.web_ui.app is not None
        self.app = self.web_ui.app
        self.client: FlaskClient = self.app.test_client()
        run = folder / "one"
        (run / "analysis").mkdir(parents=True)
        (run / "figures").mkdir()
        (run / "logs").mkdir()
        for name in ("run.json", "requests.jsonl", "analysis/report.html", "figures/cdf.png", "logs/server.log"):
            (run / name).write_text(f"<{name}>")
        (run / "figures" / "secret.txt").write_text("secret")
        (folder / "secret.json").write_text("secret")
        (run / "profile.resolved.yaml").symlink_to(folder / "secret.json")
        self.run = run


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["locust"])  # Locust's page reads the command line


@pytest.fixture
def locust(tmp_path: Path) -> _Session:
    return _Session(tmp_path)


def test_the_page_admits_only_its_own_style_and_script(locust: _Session) -> None:
    answer = locust.client.get("/fairshare")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = answer.get_data(as_text=True)
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert len(content) > 1000
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_tenants_have_the_colours_of_the_final_figures(locust: _Session) -> None:
    from analysis.figures.style import tenant_line

    script = locust.client.get("/fairshare").get_data(as_text=True)
    (listed,) = re.findall(r"const COLOURS = (\[.*?\]);", script)
    colours = json.loads(listed)
    assert colours == [tenant_line(index)["color"] for index in range(len(colours))]
    assert tenant_line(len(colours))["color"] == colours[0]


def test_before_the_first_run_there_is_nothing(locust: _Session) -> None:
    assert locust.client.get("/fairshare/live.json").json == {"runs": []}


def test_the_snapshot_with_the_runs_of_the_session(locust: _Session) -> None:
    locust.current = snapshot()
    locust.runs = [RunLink(locust.run, {"status": "valid", "reasons": []})]
    answer = locust.client.get("/fairshare/live.json")
    assert answer.headers["Cache-Control"] == "no-store"
    live = answer.get_json()
    (run,) = live.pop("runs")
    assert live == locust.current
    assert run["name"] == "one"
    assert run["verdict"] == {"status": "valid", "reasons": []}
    assert run["report"] == "fairshare/runs/one/analysis/report.html"
    assert [file["name"] for file in run["files"]] == [
        "analysis/report.html",
        "requests.jsonl",
        "run.json",
        "figures/cdf.png",
    ]
    for file in run["files"]:
        assert locust.client.get(f"/{file['href']}").get_data(as_text=True) == f"<{file['name']}>"


def test_what_json_has_no_word_for_is_null(locust: _Session) -> None:
    locust.current = {"t_s": float("nan")}
    assert locust.client.get("/fairshare/live.json").json == {"t_s": None, "runs": []}


def test_prometheus_text(locust: _Session) -> None:
    answer = locust.client.get("/fairshare/metrics")
    assert answer.get_data(as_text=True) == "fairshare_in_flight 3\n"
    assert answer.content_type.startswith("text/plain; version=0.0.4")


def test_a_report_can_run_no_script_but_its_own(locust: _Session) -> None:
    locust.runs = [RunLink(locust.run)]
    policy = locust.client.get("/fairshare/runs/one/analysis/report.html").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    own = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    assert [part for part in policy.split("; ") if "script" in part] == [f"script-src 'sha256-{own}'"]
    answer = locust.client.get("/fairshare/runs/one/requests.jsonl")
    assert answer.headers["Content-Disposition"] == "attachment; filename=requests.jsonl"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_grows_is_sent_as_long_as_announced(locust: _Session) -> None:
    locust.runs = [RunLink(locust.run)]
    answer = locust.client.get("/fairshare/runs/one/requests.jsonl", buffered=False)
    with open(locust.run / "requests.jsonl", "a") as file:
        file.write("more")
    assert answer.content_length == len("<requests.jsonl>")
    assert answer.get_data(as_text=True) == "<requests.jsonl>"


@pytest.mark.parametrize(
    "path",
    [
        "one/../secret.json",
        "one/..%2fsecret.json",
        "one/%2e%2e/secret.json",
        "one/analysis/../../secret.json",
        "one//etc/passwd",
        "one/%2Fetc%2Fpasswd",
        "one/logs/server.log",
        "one/figures/secret.txt",
        "one/figures/../run.json",
        "one/figures/cdf.png%00.txt",
        "one/figures/cdf.png%0a",
        "one/profile.resolved.yaml",
        "one/analysis/summary.json",
        "one/",
        "two/run.json",
        "../one/run.json",
        "%2e%2e/run.json",
        "latest/run.json",
    ],
)
def test_no_other_file_is_given_away(locust: _Session, path: str) -> None:
    locust.runs = [RunLink(locust.run)]
    (locust.run.parent / "latest").symlink_to("one")
    (locust.run.parent / "two").mkdir()
    (locust.run.parent / "two" / "run.json").write_text("of another session")
    answer = locust.client.get(f"/fairshare/runs/{path}")
    assert answer.status_code in (404, 308)
    assert b"secret" not in answer.data
    assert b"<" + path.encode() not in answer.data


@given(name=st.text() | st.lists(st.sampled_from(["..", "/", "figures", "a.png", "run.json", "\0", "."])).map("".join))
def test_a_run_shows_only_what_lies_inside_it(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "run of arbitrary names"
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text("{}")
    shown = RunLink(path).file(name)
    assert shown is None or shown == (path / "run.json").resolve()


def test_a_fifo_or_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    os.mkfifo(tmp_path / "requests.jsonl")
    (tmp_path / "figures").symlink_to("figures")
    assert RunLink(tmp_path).files() == []


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_but_get_is_answered(locust: _Session, route: str) -> None:
    locust.runs = [RunLink(locust.run)]
    assert locust.client.get(route).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert locust.client.open(route, method=method).status_code == 405


def test_all_stand_below_locusts_base_path(tmp_path: Path) -> None:
    locust = _Session(tmp_path, web_base_path="/load")
    locust.runs = [RunLink(locust.run)]
    for route in ROUTES:
        assert locust.client.get(f"/load{route}").status_code == 200
        assert locust.client.get(route).status_code == 404


# --- with --web-login


@pytest.fixture
def closed(tmp_path: Path) -> _Session:
    locust = _Session(tmp_path, web_login=True)
    locust.app.secret_key = "of the test"

    class _User(flask_login.UserMixin):  # type: ignore[misc]
        id = "somebody"

    loader: Callable[[str], Any] = lambda name: _User() if name == "somebody" else None  # noqa: E731
    locust.web_ui.login_manager.user_loader(loader)

    def enter() -> str:
        flask_login.login_user(_User())
        session.modified = True
        return "in"

    locust.app.add_url_rule("/enter", view_func=enter)
    locust.current = snapshot()
    locust.runs = [RunLink(locust.run)]
    return locust


@pytest.mark.parametrize("route", [*ROUTES, "/fairshare/runs/one/absent", "/stats/requests", "/"])
def test_with_a_login_strangers_get_nothing(closed: _Session, route: str) -> None:
    stranger = closed.client.get(route)
    assert stranger.status_code == 302
    assert stranger.headers["Location"].startswith("/login")
    for told in (b"chat", b"fairshare_in_flight", b"run.json>", b"demo"):
        assert told not in stranger.data
    closed.client.get("/enter")
    assert closed.client.get(route).status_code == (404 if route.endswith("absent") else 200)


def test_a_stranger_can_start_nothing_and_learns_no_profile(closed: _Session, tmp_path: Path) -> None:
    check_start(closed.web_ui, lambda: {"profiles/demo.yaml": tmp_path})
    assert closed.client.post("/swarm", data={"fairshare_profile": "x"}).status_code == 302
    closed.client.get("/enter")
    answer = closed.client.post("/swarm", data={"fairshare_profile": "x"})
    assert "must be one of profiles/demo.yaml" in answer.get_json()["message"]


# --- in Locust's own page


def test_the_tab_is_in_locusts_page_with_links_to_the_runs(locust: _Session) -> None:
    def arguments() -> dict[str, Any]:
        text = locust.client.get("/").get_data(as_text=True)
        (found,) = re.findall(r"window\.templateArgs = (\{.*\})", text)
        content: dict[str, Any] = json.loads(found)
        return content

    before = arguments()
    assert {"title": "Tenants", "key": "tenants"} in before["extended_tabs"]
    assert [link["href"] for link in before["extended_csv_files"]] == ["./fairshare"]
    locust.runs = [RunLink(locust.run)]
    links = [link["href"] for link in arguments()["extended_csv_files"]]
    assert links[0] == "./fairshare"
    assert "./fairshare/runs/one/analysis/report.html" in links
    for link in links:
        assert locust.client.get(link.removeprefix(".")).status_code == 200


def test_locusts_figures_carry_the_tenants_and_follow_them(locust: _Session) -> None:
    def table() -> list[dict[str, Any]]:
        (found,) = locust.client.get("/stats/requests").get_json()["extended_stats"]
        assert found["key"] == "tenants"
        rows: list[dict[str, Any]] = found["data"]
        return rows

    assert table() == []
    locust.current = snapshot()
    assert [row["tenant"] for row in table()] == ["chat", "batch", "all tenants"] * 2
    assert "user_count" in locust.client.get("/stats/requests").get_json()


def test_rows_by_hand() -> None:
    """Second 60 is 4 past a multiple of 7: 100 + 40 tokens/s."""
    rows = tenant_rows(snapshot(60))
    assert rows[0] == {
        "name": "0000",
        "tenant": "chat",
        "span": "last 10 s",
        "in_flight": 3,
        "offered_per_s": 2.0,
        "requests_per_s": 1.5,
        "output_tokens_per_s": 140.0,
        "ttft_p50": 125,
        "ttft_p99": 250,
        "tpot_p50": 31.2,
        "slo": 0.938,
        "failed": 3,
        "jain": "",
        "lag": "",
        "cpu": "",
    }
    assert (rows[2]["tenant"], rows[2]["jain"], rows[2]["lag"], rows[2]["cpu"]) == ("all tenants", 0.812, 2.3, 0.26)
    assert rows[3]["span"] == "whole run"
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)


def test_undefined_is_a_dash_and_never_0() -> None:
    idle = tenant_rows(snapshot())[1]
    undefined = ("requests_per_s", "output_tokens_per_s", "ttft_p50", "ttft_p99", "tpot_p50", "slo")
    assert {idle[key] for key in undefined} == {"–"}
    assert idle["failed"] == 0
    assert tenant_rows(None) == tenant_rows({}) == []


# --- POST /swarm


@pytest.fixture
def starting(locust: _Session, tmp_path: Path) -> _Session:
    """A web UI whose runner notes a start instead of making load."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "demo.yaml").write_text("name: demo\n")
    check_start(locust.web_ui, lambda: profile_choices(folder), {"plugin_option"})
    runner: Any = locust.web_ui.environment.runner
    runner.start = lambda *_: locust.started.append({})
    locust.options.fairshare_profile = str(folder / "demo.yaml")
    locust.options.fairshare_scale = "1"
    locust.options.fairshare_out = "runs"
    return locust


def test_a_right_form_reaches_locust(starting: _Session) -> None:
    profile = starting.options.fairshare_profile
    form = {"user_count": "2", "spawn_rate": "2", "host": "", "fairshare_profile": profile, "fairshare_scale": "0.5"}
    assert starting.client.post("/swarm", data=form).get_json()["success"] is True
    assert starting.options.fairshare_scale == "0.5"


@pytest.mark.parametrize(
    "wrong",
    [
        {"fairshare_profile": "/etc/passwd"},
        {"fairshare_scale": "-1"},
        {"fairshare_out": "/somewhere"},
        {"csv_prefix": "/somewhere"},
        {"host": "gopher://x"},
        {"user_count": "99999999999"},
        {"fairshare_scale": ["2", "3"]},
    ],
)
def test_a_wrong_form_changes_nothing_and_says_why(starting: _Session, wrong: dict[str, Any]) -> None:
    before = dict(vars(starting.options))
    form = {"user_count": "2", "spawn_rate": "2", "fairshare_scale": "3", **wrong}
    answer = starting.client.post("/swarm", data=form).get_json()
    assert answer["success"] is False
    (field, value), *_ = wrong.items()
    assert field in answer["message"] or str(value) in answer["message"]
    assert vars(starting.options) == before
