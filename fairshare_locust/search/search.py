"""Search: the runs of one mode, one after another, until its border is known. What has been run is not run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fairshare_locust.errors import ProfileError
from fairshare_locust.matrix.cells import Cell, Variant
from fairshare_locust.matrix.execute import Executor
from fairshare_locust.matrix.runner import Runner, Watcher
from fairshare_locust.matrix.state import CellState, MatrixFolder
from fairshare_locust.search.bisection import Limits, Try, border, next_try
from fairshare_locust.search.probe import Outcome, outcome_of, probe_cell

__all__ = ["ModeSearch", "Search", "check_slos"]


@dataclass
class ModeSearch:
    """What is known of one mode.

    Attributes:
        outcomes: by try, in the order in which they were made.
        failure: why the search ended before the border was known; "" if it did not.
    """

    variant: Variant
    outcomes: dict[Try, Outcome] = field(default_factory=dict)
    failure: str = ""

    @property
    def held(self) -> float | None:
        """The highest load that held; None if none did."""
        return border(self._known).held

    @property
    def broke(self) -> float | None:
        """The lowest load that broke; None if none did."""
        return border(self._known).broke

    @property
    def _known(self) -> Mapping[Try, bool]:
        return {one: outcome.held for one, outcome in self.outcomes.items()}

    def next_try(self, limits: Limits) -> Try | None:
        """What to run next; None when the border is known, or can't be."""
        return None if self.failure else next_try(self._known, limits)

    def at(self, scale: float) -> list[Outcome]:
        """What came of the runs at a load."""
        return [outcome for one, outcome in self.outcomes.items() if one.scale == scale]


class Search:
    """Searches mode after mode in one folder, which holds the runs as that of a matrix does."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        folder: MatrixFolder,
        executor: Executor,
        watcher: Watcher,
        tell: Callable[[Variant, Try, Outcome], None],
        *,
        seed: int,
        cooldown_s: float = 0.0,
        fresh: bool = False,
    ) -> None:
        """`tell` is called for each try, with what came of it; `fresh`: what has been run is set aside."""
        self._name = name
        self._limits = limits
        self._folder = folder
        self._executor = executor
        self._watcher = watcher
        self._tell = tell
        self._seed = seed
        self._cooldown_s = cooldown_s
        self._fresh = fresh

    def run(self, variant: Variant) -> ModeSearch:
        """Search one mode to its end; a run that fails ends it, with the reason.

        Raises RunDirectoryError when the folder can't be written, KeyboardInterrupt as a matrix does.
        """
        found = ModeSearch(variant, failure=variant.refused)
        alike: dict[str, Outcome] = {}
        while (one := found.next_try(self._limits)) is not None:
            cell = probe_cell(variant, one, self._seed)
            # Loads that round to as many streams are the same run.
            same = replace(cell, profile=replace(cell.profile, name="same")).text
            outcome = alike[same] if same in alike else self._outcome(cell)
            if isinstance(outcome, str):
                found.failure = f"{cell.title}: {outcome}"
                break
            alike[same] = found.outcomes[one] = outcome
            self._tell(variant, one, outcome)
        return found

    def _outcome(self, cell: Cell) -> Outcome | str:
        """What came of a cell, run now or before; text: why nothing did."""
        self._folder.sweep((cell,), fresh=self._fresh)
        state = self._folder.state(cell)
        if not self._done(cell, state):
            Runner(
                self._name,
                [cell],
                self._folder,
                self._executor,
                self._watcher,
                cooldown_s=self._cooldown_s,
                again=False,  # too much load makes a run suspect as well
            ).run()
            state = self._folder.state(cell)
        if state.state not in ("counted", "suspect") or state.run is None:
            return state.reason or state.state
        doubt = state.reason if state.state == "suspect" else ""
        outcome = outcome_of(cell.profile, self._folder.path / state.run, doubt)
        return replace(outcome, run=state.run)

    def _done(self, cell: Cell, state: CellState) -> bool:
        """Whether a run of this very cell is there already; a suspect one is as good, for what it says."""
        if self._folder.counted(cell) is not None:
            return state.state == "counted" and state.run is not None
        if state.state != "suspect" or state.run is None:
            return False
        try:
            same = (self._folder.of(cell) / "profile.yaml").read_text(encoding="utf-8") == cell.text
        except OSError:
            return False
        return same and (self._folder.path / state.run / "analysis" / "summary.json").exists()


def check_slos(variant: Variant, source: str) -> None:
    """Raises ProfileError if no tenant has an SLO that could break."""
    if all(tenant.slo is None for tenant in variant.profile.tenants):
        raise ProfileError(
            [f"{source}: no tenant has an slo that a load could break; give one an slo, such as {{ttft_ms: 500}}"]
        )
