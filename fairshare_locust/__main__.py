"""`python -m fairshare_locust`, or `fairshare`: check a profile, serve it, simulate it, report on a run, serve
a host's GPUs, tell what this machine can do."""

from __future__ import annotations

import argparse
import math
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, get_args
from urllib.parse import urlsplit

from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.arguments import scale_of, seed_of
from fairshare_locust.errors import FairshareError, ServingError
from fairshare_locust.matrix import command as matrix
from fairshare_locust.offered import Offered, offered_load
from fairshare_locust.parts import absences
from fairshare_locust.plan import PLANS, Phase, apply_plan, phases_of
from fairshare_locust.profile import Profile, load_profile, resolved_yaml
from fairshare_locust.profile.model import Sharing
from fairshare_locust.profile.transform import scaled
from fairshare_locust.search import command as search
from fairshare_locust.serving import doctor
from fairshare_locust.simulator.partition import parts_of
from fairshare_locust.telemetry import agent

__all__ = ["main"]

_EXIT_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 2 an error that the user can mend."""
    parser = argparse.ArgumentParser(prog="fairshare", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="validate a profile; print its defaults and the load it offers")
    check.add_argument("profile", type=Path, metavar="PROFILE")
    check.add_argument("--plan", choices=sorted(PLANS), default="mixed", help="the phases to reckon with")
    serve = commands.add_parser("serve", help="start a profile's servers and stay; Ctrl-C stops them")
    serve.add_argument("profile", type=Path, metavar="PROFILE")
    serve.add_argument(
        "--listen",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to serve on, such as 0.0.0.0 for load from other hosts (default: %(default)s)",
    )
    serve.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the servers' logs there (default: not kept)")
    simulate = commands.add_parser(
        "simulate", help="run a profile on the modelled GPU in virtual time: no server, no waiting"
    )
    simulate.add_argument("profile", type=Path, metavar="PROFILE")
    simulate.add_argument(
        "--sharing",
        nargs="+",
        choices=get_args(Sharing),
        default=(),
        metavar="MODE",
        help=f"how the GPU is shared: {', '.join(get_args(Sharing))}; several are compared (default: as the profile "
        "says)",
    )
    simulate.add_argument("--plan", choices=sorted(PLANS), default="mixed", help="the phases (default: %(default)s)")
    simulate.add_argument("--seed", type=_seed, metavar="NUMBER", help="replaces the profile's seed")
    simulate.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="FACTOR",
        help="multiplies every tenant's rate, concurrency and streams in flight (default: 1)",
    )
    simulate.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where run directories are made (default: runs)",
    )
    simulate.add_argument("--no-report", action="store_true", help="do not analyse the runs when they end")
    matrix.add_arguments(commands.add_parser("matrix", help=matrix.HELP))
    search.add_arguments(commands.add_parser("search", help=search.HELP))
    doctor.add_arguments(commands.add_parser("doctor", help=doctor.HELP))
    report = commands.add_parser(
        "report", help="(re)build a run's report, as python -m analysis report", add_help=False
    )
    report.add_argument("rest", nargs=argparse.REMAINDER)
    telemetry = commands.add_parser("telemetry", help="serve what this host's GPUs do, for a run on another host")
    agent.add_arguments(telemetry)
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            return _check(options.profile, options.plan)
        if options.command == "serve":
            return _serve(options.profile, options.listen, options.logs)
        if options.command == "simulate":
            return _simulate(options)
        if options.command == "matrix":
            return matrix.run(options)
        if options.command == "search":
            return search.run(options)
        if options.command == "doctor":
            return doctor.run(options)
        if options.command == "telemetry":
            return agent.serve(options)
    except FairshareError as error:
        for line in str(error).splitlines():
            print(f"fairshare: {line}", file=sys.stderr)
        return _EXIT_ERROR
    from analysis.__main__ import main as analyse

    return analyse(["report", *options.rest])


def _seed(text: str) -> int:
    try:
        return seed_of(text)
    except FairshareError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _scale(text: str) -> float:
    try:
        return scale_of(text)
    except FairshareError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _simulate(options: argparse.Namespace) -> int:
    from fairshare_locust.simulator.comparison import Comparison  # loads the engine

    profile = scaled(load_profile(options.profile), options.scale)
    if options.seed is not None:
        profile = replace(profile, seed=options.seed)
    comparison = Comparison(profile, options.plan, options.out, not options.no_report, Console(highlight=False))
    return 0 if comparison.run(options.sharing) else _EXIT_ERROR


def _check(path: Path, plan_name: str) -> int:
    profile = apply_plan(plan_name, load_profile(path))
    if profile.deployment.engine == "simulator":
        parts_of(profile)
    elif profile.deployment.real and profile.deployment.sharing != "mig":
        from fairshare_locust.serving.placement import memory_shares

        memory_shares(profile)
    plan = phases_of(profile)
    load = offered_load(profile, plan)
    console = Console(highlight=False)
    print(resolved_yaml(profile))
    console.print(_load_table(load))
    console.print(_timetable(profile, plan))
    if any(offered.requests is None for offered in load):
        console.print(
            "Closed loops and batches (–) send as fast as they are answered; their load is known after the run.",
            soft_wrap=True,
        )
    for absence in absences(profile, plan):
        console.print(f"warning: {absence}", soft_wrap=True)
    _warn_of_length(profile, load, console)
    return 0


def _load_table(load: Sequence[Offered]) -> Table:
    table = Table("tenant", "arrival", box=box.SIMPLE_HEAD, title="offered load", title_justify="left")
    for header in ("streams", "requests/s", "input\ntokens/s", "output\ntokens/s", "requests"):
        table.add_column(header, justify="right", no_wrap=True)
    for offered in load:
        arrival = offered.tenant.arrival
        table.add_row(
            offered.tenant.id,
            arrival.process,
            str(arrival.slots),
            _number(offered.requests_per_s),
            _number(offered.input_tokens_per_s),
            _number(offered.output_tokens_per_s),
            _number(offered.requests),
        )
    known = [offered for offered in load if offered.requests is not None]
    more = "" if len(known) == len(load) else "+"
    table.add_section()
    table.add_row(
        "total",
        "",
        str(sum(offered.tenant.arrival.slots for offered in load)),
        _number(sum(offered.requests_per_s or 0 for offered in known)) + more,
        _number(sum(offered.input_tokens_per_s or 0 for offered in known)) + more,
        _number(sum(offered.output_tokens_per_s or 0 for offered in known)) + more,
        _number(sum(offered.requests or 0 for offered in known)) + more,
    )
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _timetable(profile: Profile, plan: Sequence[Phase]) -> Table:
    """Phases with their times at the latest: a drain ends as soon as nothing is in flight."""
    table = Table(box=box.SIMPLE_HEAD, title="timetable, at the latest", title_justify="left")
    table.add_column("phase", no_wrap=True)
    for header in ("from s", "warm-up s", "measured", "drain s"):
        table.add_column(header, justify="right", no_wrap=True)
    varied = any(phase.load != 1 for phase in plan)
    if varied:
        table.add_column("load", justify="right")
    table.add_column("tenants")
    at_s = 0.0
    for phase in plan:
        measured = f"{phase.requests:,} requests each" if phase.duration_s is None else f"{phase.duration_s:g} s"
        row = [phase.prefix.rstrip("/") or "all tenants", _seconds(at_s), f"{phase.warmup_s:g}", measured]
        row += [f"≤ {phase.drain_s:g}", *([f"× {phase.load:g}"] if varied else [])]
        table.add_row(*row, _who(phase, profile))
        at_s += math.inf if phase.duration_s is None else phase.warmup_s + phase.duration_s + phase.drain_s
    table.add_row("end", _seconds(at_s), style="dim")
    notes = [
        f"{tenant.id} is there from {' and '.join(f'{begin:g} to {end:g} s' for begin, end in stretches)} of a phase"
        for tenant in profile.tenants
        if (stretches := tenant.arrival.active_s)
    ]
    if any(phase.stop_if_slo_breaks for phase in plan):
        notes.append("* nothing comes after the first of these phases in which an SLO breaks")
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def _who(phase: Phase, profile: Profile) -> str:
    everyone = len(phase.tenants) == len(profile.tenants) > 1
    return ("all" if everyone else ", ".join(phase.tenants)) + (" *" if phase.stop_if_slo_breaks else "")


def _seconds(at_s: float) -> str:
    return f"{at_s:g}" if math.isfinite(at_s) else "?"


def _warn_of_length(profile: Profile, load: Sequence[Offered], console: Console) -> None:
    deployment = profile.deployment
    longest = deployment.server.max_model_len if deployment.real else deployment.simulator.max_model_len
    if deployment.engine == "external" or longest is None:
        return
    who = "the simulator" if deployment.engine == "simulator" else "its server"
    for offered in load:
        longer = sum(tokens > longest for tokens in offered.sampled)
        if longer:
            console.print(
                f"warning: tenant {offered.tenant.id!r}: {longer} of its first {len(offered.sampled)} requests ask for "
                f"more than max_model_len {longest} tokens, prompt and answer together: {who} will refuse them",
                soft_wrap=True,
            )


def _serve(path: Path, address: str, logs: Path | None) -> int:
    from fairshare_locust.serving import Deployed, deploy

    profile = load_profile(path)
    if profile.deployment.engine == "external":
        raise ServingError(f"{path}: deployment.engine is external, so there is nothing to start")

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if logs is not None:
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServingError(f"--logs {logs}: can't be written: {error.strerror}; name another folder") from error
    deployed = Deployed({})
    try:
        deployed = deploy(profile, logs, address)
        for tenant_id, servers in deployed.servers.items():
            print(f"{tenant_id}: {', '.join(_reachable(server.endpoint) for server in servers)}", flush=True)
        print("serving; Ctrl-C stops", flush=True)
        deployed.wait()
    except KeyboardInterrupt:
        return 0
    except ServingError:
        if logs is None and profile.deployment.real:
            print("fairshare: the servers' logs are not kept; with --logs FOLDER they are", file=sys.stderr)
        raise
    finally:
        try:
            deployed.stop()
        except KeyboardInterrupt:  # each server has been asked to end, and is killed in time by its keeper
            print("fairshare: not waited for; the servers end by themselves", file=sys.stderr)


def _reachable(endpoint: str) -> str:
    """An endpoint as others may ask for it: of a server that listens on every address, by this host's name."""
    url = urlsplit(endpoint)
    if url.hostname in ("0.0.0.0", "::"):
        url = url._replace(netloc=f"{socket.gethostname()}:{url.port}")
    return url.geturl()


if __name__ == "__main__":
    sys.exit(main())
