"""Weights & Biases. Key and server are its own: `wandb login`, or WANDB_API_KEY and WANDB_BASE_URL."""

from __future__ import annotations

from analysis.publish.published import Published, library
from fairshare_locust.errors import FairshareError

__all__ = ["publish"]


def publish(run: Published, *, project: str, offline: bool) -> str:
    """Send a run. Offline, it is written under `wandb/` here, or under WANDB_DIR, for `wandb sync`.

    Returns where it is.

    Raises FairshareError when the library is missing or refuses.
    """
    wandb = library("wandb")
    # What our own process prints and how busy this machine is says nothing of the run.
    settings = wandb.Settings(console="off", x_disable_stats=True, disable_git=True)
    try:
        with wandb.init(
            project=project,
            name=run.name,
            config=dict(run.settings),
            mode="offline" if offline else "online",
            settings=settings,
        ) as kept:
            kept.log(
                {
                    **{
                        f"tables/{one.key}": wandb.Table(list(one.headings), list(map(list, one.rows)))
                        for one in run.tables
                    },
                    **{f"figures/{path.stem}": wandb.Image(str(path)) for path in run.figures if path.stat().st_size},
                }
            )
            kept.summary.update(dict(run.metrics))
            report = wandb.Artifact(f"report-{kept.id}", type="report")
            for folder, paths in (("analysis", run.documents), ("figures", run.figures)):
                for path in paths:
                    report.add_file(str(path), name=f"{folder}/{path.name}")
            kept.log_artifact(report)
            return str(kept.dir if offline else kept.url)
    except wandb.Error as error:
        raise FairshareError(
            f"wandb refuses project {project!r}: {error}; run `wandb login`, or publish with --offline"
        ) from error
