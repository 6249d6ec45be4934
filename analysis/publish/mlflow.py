"""MLflow. Server and key are its own: MLFLOW_TRACKING_URI, and MLFLOW_TRACKING_TOKEN or user name and password."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from analysis.publish.published import Published, library
from fairshare_locust.errors import FairshareError

__all__ = ["publish"]

_AT_ONCE = 1000  # metrics; MLflow takes no more


def publish(run: Published, *, project: str, offline: bool) -> str:
    """Send a run to the experiment `project`. Offline, it is written under `mlruns/` here.

    Returns where it is.

    Raises FairshareError when the library is missing or refuses.
    """
    mlflow = library("mlflow")
    before = mlflow.get_tracking_uri()
    try:
        if offline:
            # A database needs the whole of MLflow; plain files, which the small one writes, it wants to be asked for.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            mlflow.set_tracking_uri((Path.cwd() / "mlruns").as_uri())
        mlflow.set_experiment(project)
        with mlflow.start_run(run_name=run.name) as kept:
            mlflow.log_params(dict(run.settings))
            for some in _batches(list(run.metrics.items())):
                mlflow.log_metrics(some)
            for one in run.tables:
                columns = {title: [row[place] for row in one.rows] for place, title in enumerate(one.headings)}
                mlflow.log_table(columns, f"tables/{one.key}.json")
            for folder, paths in (("analysis", run.documents), ("figures", run.figures)):
                for path in paths:
                    mlflow.log_artifact(str(path), folder)
            return f"{mlflow.get_tracking_uri()}, experiment {project}, run {kept.info.run_id}"
    except mlflow.exceptions.MlflowException as error:
        raise FairshareError(
            f"mlflow refuses experiment {project!r}: {error}; set MLFLOW_TRACKING_URI, or publish with --offline"
        ) from error
    finally:
        if offline:
            mlflow.set_tracking_uri(before)


def _batches(metrics: list[tuple[str, float]]) -> Iterator[dict[str, float]]:
    for start in range(0, len(metrics), _AT_ONCE):
        yield dict(metrics[start : start + _AT_ONCE])
