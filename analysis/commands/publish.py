"""`publish`: send a run's numbers, tables, figures and report to Weights & Biases or MLflow."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

__all__ = ["HELP", "NAME", "add", "run"]

NAME = "publish"
HELP = "send a run's numbers, tables, figures and report to Weights & Biases or MLflow"

_SERVICES = ("wandb", "mlflow")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments. Keys and servers are each service's own, from its login or its environment."""
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="a run directory that has a report")
    parser.add_argument("--to", required=True, choices=_SERVICES, help="which service")
    parser.add_argument(
        "--project", default="fairshare", help="wandb project or MLflow experiment (default: fairshare)"
    )
    parser.add_argument(
        "--offline", action="store_true", help="write it here instead, under wandb/ or mlruns/; nothing is sent"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code: 0 done."""
    from analysis.publish.published import published  # numpy loads here, not with the commands

    service = importlib.import_module(f"analysis.publish.{options.to}")
    where = service.publish(published(options.run_directory), project=options.project, offline=options.offline)
    print(f"published {options.run_directory} to {options.to}: {where}")
    return 0
