"""Our command-line options. They share the prefix `--fairshare-`; none holds a secret."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locust.argument_parser import LocustArgumentParser, get_empty_argument_parser

from fairshare_locust.arguments import scale_of, seed_of
from fairshare_locust.errors import FairshareError

__all__ = ["DEFAULT_PROFILE", "EarlyOptions", "Options", "add_options", "early_options", "meet_apart"]

DEFAULT_PROFILE = "profiles/demo.yaml"


def add_options(parser: LocustArgumentParser, profiles: Sequence[str] | None = None) -> None:
    """Add the options to Locust's parser. Locust calls this more than once.

    `profiles` are those on offer in the web UI's form; the command line may name any, as it is among them then.
    """
    parser.add_argument(
        "--fairshare-profile",
        metavar="FILE",
        default=DEFAULT_PROFILE,
        choices=profiles,
        env_var="FAIRSHARE_PROFILE",
        help=f"The profile to run: tenants, load, deployment (default: {DEFAULT_PROFILE})",
    )
    parser.add_argument(
        "--fairshare-out",
        metavar="FOLDER",
        include_in_web_ui=False,
        default="runs",
        env_var="FAIRSHARE_OUT",
        help="Where run directories are made (default: runs)",
    )
    parser.add_argument(
        "--fairshare-scale",
        metavar="FACTOR",
        default="1",
        env_var="FAIRSHARE_SCALE",
        help="Multiplies every tenant's rate, concurrency and streams in flight (default: 1)",
    )
    parser.add_argument(
        "--fairshare-seed",
        metavar="NUMBER",
        default="",
        env_var="FAIRSHARE_SEED",
        help="Replaces the profile's seed",
    )
    parser.add_argument(
        "--fairshare-no-report",
        action="store_true",
        include_in_web_ui=False,
        default=False,
        env_var="FAIRSHARE_NO_REPORT",
        help="Do not analyse the run when it ends (python -m analysis report RUN does it later)",
    )
    parser.add_argument(
        "--fairshare-strict",
        action="store_true",
        include_in_web_ui=False,
        default=False,
        env_var="FAIRSHARE_STRICT",
        help="Exit with code 3 when the run's figures can't be trusted",
    )


@dataclass(frozen=True)
class Options:
    """Our options, checked."""

    profile: Path
    out: Path
    scale: float
    seed: int | None
    report: bool
    strict: bool

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Options:
        """From Locust's parsed options. Raises FairshareError for a value that can't be."""
        return cls(
            profile=Path(parsed.fairshare_profile or DEFAULT_PROFILE),
            out=Path(parsed.fairshare_out),
            scale=_scale(str(parsed.fairshare_scale)),
            seed=_seed(str(parsed.fairshare_seed)),
            report=not parsed.fairshare_no_report,
            strict=bool(parsed.fairshare_strict),
        )


def _scale(text: str) -> float:
    try:
        return scale_of(text)
    except FairshareError as error:
        raise FairshareError(f"--fairshare-scale: {error}") from None


def _seed(text: str) -> int | None:
    try:
        return None if text == "" else seed_of(text)
    except FairshareError as error:
        raise FairshareError(f"--fairshare-seed: {error}") from None


_MEETING_PLACE = {
    "--master-host": "LOCUST_MASTER_NODE_HOST",
    "--master-port": "LOCUST_MASTER_NODE_PORT",
    "--master-bind-host": "LOCUST_MASTER_BIND_HOST",
    "--master-bind-port": "LOCUST_MASTER_BIND_PORT",
}


def meet_apart() -> None:
    """Have a master and the workers that it forks meet at a port of their own, which only this host reaches.

    At Locust's usual port they would disturb another run on this host, and be open to whoever reaches it. To be called
    before Locust reads its options.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    hosts = {"LOCUST_MASTER_NODE_HOST": "127.0.0.1", "LOCUST_MASTER_BIND_HOST": "127.0.0.1"}
    os.environ.update({**hosts, "LOCUST_MASTER_NODE_PORT": port, "LOCUST_MASTER_BIND_PORT": port})


@dataclass(frozen=True)
class EarlyOptions:
    """What has to be known while the locustfile is imported, before Locust parses its command line.

    Attributes:
        profile_given: somebody has named the profile; else it is the default one.
        worker: this process is to do what a master says.
        otel: Locust will set OpenTelemetry up.
        forks: it will start workers as processes of its own.
        meeting_given: somebody has said where a master and its workers are to meet.
    """

    profile: Path
    profile_given: bool
    asks_for_help: bool
    worker: bool
    otel: bool
    forks: bool
    meeting_given: bool


def early_options(arguments: list[str] | None = None) -> EarlyOptions:
    """Read them from the same command line, environment and configuration files as Locust will.

    Locust wants its user classes from the import of the locustfile, and ours come from the profile.
    """
    parser: Any = get_empty_argument_parser(add_help=False)
    add_options(parser)
    parser.set_defaults(fairshare_profile=None)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-V", "--version", action="store_true")
    parser.add_argument("--master", action="store_true")  # or it would be taken for the start of --master-host
    parser.add_argument("--worker", action="store_true", env_var="LOCUST_MODE_WORKER")
    parser.add_argument("--otel", action="store_true", env_var="LOCUST_ENABLE_OPENTELEMETRY")
    parser.add_argument("--processes", env_var="LOCUST_PROCESSES")
    for option, variable in _MEETING_PLACE.items():
        parser.add_argument(option, env_var=variable)
    parsed, _ = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    return EarlyOptions(
        profile=Path(parsed.fairshare_profile or DEFAULT_PROFILE),
        profile_given=bool(parsed.fairshare_profile),
        asks_for_help=parsed.help or parsed.version,
        worker=parsed.worker,
        otel=parsed.otel,
        forks=bool(parsed.processes) and not parsed.worker,  # with --worker too, their master is elsewhere
        meeting_given=any(getattr(parsed, option[2:].replace("-", "_")) for option in _MEETING_PLACE),
    )
