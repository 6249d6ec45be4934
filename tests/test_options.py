"""Our options, in a process of its own: Locust patches the process that imports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_PROGRAM = """
import locust, argparse, json, sys
from fairshare_locust.errors import FairshareError
from fairshare_locust.options import Options, add_options, early_options
from locust.argument_parser import get_empty_argument_parser

def options(arguments):
    parser = get_empty_argument_parser()
    add_options(parser)
    try:
        made = Options.of(parser.parse_args(arguments))
    except FairshareError as error:
        return str(error)
    return [str(made.profile), str(made.out), made.scale, made.seed, made.report, made.strict]

def early(arguments):
    made = early_options(arguments)
    told = (made.profile_given, made.asks_for_help, made.worker, made.otel, made.forks, made.meeting_given)
    return [str(made.profile), *told]

json.dump([globals()[name](arguments) for name, arguments in json.load(sys.stdin)], sys.stdout)
"""


def run(cases: list[tuple[str, list[str]]], folder: Path, **environment: str) -> list[Any]:
    """The answer of `options` or `early` to each of these command lines."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRSHARE_", "LOCUST_"))}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**clean, "HOME": str(folder), **environment},
    )
    answers = json.loads(done.stdout)
    assert isinstance(answers, list)
    return answers


_DEFAULTS = ["profiles/demo.yaml", "runs", 1.0, None, True, False]


def test_options(tmp_path: Path) -> None:
    given = [
        "--fairshare-profile",
        "p.yaml",
        "--fairshare-out",
        "o",
        "--fairshare-scale",
        "0.5",
        "--fairshare-seed",
        "0",
    ]
    cases: list[tuple[list[str], list[Any]]] = [
        ([], _DEFAULTS),
        (given, ["p.yaml", "o", 0.5, 0, True, False]),
        (["--fairshare-no-report", "--fairshare-strict"], [*_DEFAULTS[:4], False, True]),
        (["--fairshare-seed", str(2**63 - 1)], [*_DEFAULTS[:3], 2**63 - 1, True, False]),
    ]
    assert run([("options", arguments) for arguments, _ in cases], tmp_path) == [expected for _, expected in cases]


def test_values_that_can_not_be(tmp_path: Path) -> None:
    scale = "--fairshare-scale: found {!r}; must be a number greater than 0 (at most 1e6)"
    seed = "--fairshare-seed: found {!r}; must be a whole number from 0 to 2^63 - 1"
    cases = [("scale", value, scale) for value in ("0", "-1", "nan", "inf", "1e7", "much", "")]
    cases += [("seed", value, seed) for value in ("-1", "1.5", "abc", str(2**63), "9" * 5000, " 7", "²")]
    answers = run([("options", [f"--fairshare-{name}={value}"]) for name, value, _ in cases], tmp_path)
    assert answers == [message.format(value) for _, value, message in cases]


@pytest.mark.parametrize("how", ["environment", "file"])
def test_other_ways_to_say_it(tmp_path: Path, how: str) -> None:
    """The environment, and Locust's configuration file, count for both readings of the command line."""
    environment = {}
    if how == "environment":
        environment = {"FAIRSHARE_PROFILE": "p.yaml", "FAIRSHARE_SEED": "9", "FAIRSHARE_STRICT": "true"}
    else:
        (tmp_path / "locust.conf").write_text(
            "fairshare-profile = p.yaml\nfairshare-seed = 9\nfairshare-strict = true\n"
        )
    arguments = ["--fairshare-profile", "other.yaml"]
    assert run(
        [("options", []), ("early", []), ("options", arguments), ("early", arguments)], tmp_path, **environment
    ) == [
        ["p.yaml", "runs", 1.0, 9, True, True],
        ["p.yaml", True, False, False, False, False, False],
        ["other.yaml", "runs", 1.0, 9, True, True],
        ["other.yaml", True, False, False, False, False, False],
    ]


def test_what_is_known_before_locust_reads_its_command_line(tmp_path: Path) -> None:
    cases: list[tuple[list[str], list[Any]]] = [
        (
            ["-f", "locustfiles/mixed.py", "--headless", "-u", "3", "--host", "http://a"],
            [False, False, False, False, False],
        ),
        (["--help"], [True, False, False, False, False]),
        (["-h"], [True, False, False, False, False]),
        (["-V"], [True, False, False, False, False]),
        (["--version"], [True, False, False, False, False]),
        (["--master"], [False, False, False, False, False]),
        (["--worker"], [False, True, False, False, False]),
        (["--otel"], [False, False, True, False, False]),
        (["--processes", "4"], [False, False, False, True, False]),
        (["--processes", "4", "--master-bind-port", "7000"], [False, False, False, True, True]),
        (["--processes", "-1", "--worker"], [False, True, False, False, False]),
    ]
    answers = run([("early", arguments) for arguments, _ in cases], tmp_path)
    assert answers == [["profiles/demo.yaml", False, *expected] for _, expected in cases]


def test_a_worker_from_the_environment(tmp_path: Path) -> None:
    [early] = run([("early", [])], tmp_path, LOCUST_MODE_WORKER="true")
    assert early == ["profiles/demo.yaml", False, False, True, False, False, False]
