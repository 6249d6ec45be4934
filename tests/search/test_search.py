"""The search of a mode with runs that are only written down: what is run, what is not run again, what is told."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from fairshare_locust.errors import ProfileError
from fairshare_locust.matrix.cells import Cell, Variant, variants
from fairshare_locust.matrix.experiment import parse_experiment
from fairshare_locust.matrix.state import CellState, MatrixFolder
from fairshare_locust.record import RunDirectory
from fairshare_locust.search.bisection import Limits, Try
from fairshare_locust.search.probe import Outcome
from fairshare_locust.search.search import ModeSearch, Search, check_slos
from fairshare_locust.search.show import print_table, write_files

LIMITS = Limits(low=0.5, high=8, precision=0.1, repeats=3)
TEXT = """
name: small
base:
  name: small
  run: {duration_s: 10}
  model: {name: m}
  deployment: {simulator: {memory_mib: 10000, weights_mib: 1000}}
  tenants:
    - id: chat
      arrival: {process: poisson, rate_per_s: 2, max_in_flight: 100}
      workload: {source: synthetic, input_tokens: 10, output_tokens: 5}
      slo: {ttft_ms: 500}
    - id: batch
      arrival: {process: poisson, rate_per_s: 1, max_in_flight: 100}
      workload: {source: synthetic, input_tokens: 10, output_tokens: 5}
sharing: [logical, mps]
"""


class Runs:
    """See `Executor`: writes a run in which chat's attainment is 1 up to a load, and 0.5 above it."""

    time = "virtual"

    def __init__(self, limit: float, suspect_above: float = 1e9, fails: Callable[[Cell], str] = lambda _: "") -> None:
        self.ran: list[str] = []
        self._limit = limit
        self._suspect_above = suspect_above
        self._fails = fails

    def run(self, cell: Cell, profile: Path, log: Path, variable: str) -> str:
        self.ran.append(cell.id)
        if failure := self._fails(cell):
            return failure
        assert cell.load is not None
        directory = RunDirectory.create(profile.parent, cell.profile.name)
        verdict = "suspect" if cell.load > self._suspect_above else "valid"
        directory.write_run({"schema": 1, "time": "virtual", "state": "complete", "verdict": verdict})
        summary = directory.path / "analysis" / "summary.json"
        summary.parent.mkdir()
        share = 1.0 if cell.load <= self._limit else 0.5
        content = {
            "verdict": {"status": verdict, "reasons": ["it was slow."]},
            "tenants": {"chat": {"slo_attainment": share}, "batch": {"slo_attainment": None}},
            "totals": {"output_tokens_per_s": 100 * cell.load, "requests_per_s": 10 * cell.load},
        }
        summary.write_bytes(orjson.dumps(content))
        return ""

    def close(self) -> None:
        pass


class Quiet:
    """See `Watcher`."""

    def begin(self, cell: Cell) -> None: ...

    def end(self, cell: Cell, state: CellState, *, now: bool) -> None: ...

    def again(self, cells: object) -> None: ...

    def cool(self, cooldown_s: float) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[MatrixFolder]:
    made = MatrixFolder(tmp_path / "search", {}, "virtual")
    yield made
    made.close()


def made_variants(text: str = TEXT) -> tuple[Variant, ...]:
    return variants(parse_experiment(text, source="e.yaml", folder=Path()))


def search(folder: MatrixFolder, runs: Runs, *, fresh: bool = False, text: str = TEXT) -> ModeSearch:
    told: list[tuple[Try, Outcome]] = []

    def tell(_: Variant, one: Try, outcome: Outcome) -> None:
        told.append((one, outcome))

    found = Search("small", LIMITS, folder, runs, Quiet(), tell, seed=7, fresh=fresh).run(made_variants(text)[0])  # type: ignore[arg-type]
    assert dict(told) == found.outcomes
    return found


def test_it_finds_the_border(folder: MatrixFolder) -> None:
    runs = Runs(3)
    found = search(folder, runs)
    assert (found.held, found.broke, found.failure) == (2.828, 3.084, "")
    assert runs.ran[:3] == ["logical-scale-0.5-r1", "logical-scale-1-r1", "logical-scale-2-r1"]
    assert runs.ran[-2:] == ["logical-scale-2.828-r2", "logical-scale-3.084-r2"]
    text = (folder.path / "logical-scale-2.828-r2" / "profile.yaml").read_text()
    assert "seed: 8\n" in text
    assert "rate_per_s: 5.656" in text
    assert found.at(3.084)[0].broke == "chat's: 50.0% < 95.0%"
    assert found.at(3.084)[0].run == next(
        path.relative_to(folder.path).as_posix()
        for path in (folder.path / "logical-scale-3.084-r1").iterdir()
        if path.is_dir() and not path.is_symlink()
    )


def test_what_has_been_run_is_not_run_again(folder: MatrixFolder) -> None:
    first = search(folder, Runs(3))
    runs = Runs(3)
    assert search(folder, runs) == first
    assert runs.ran == []


def test_an_interrupted_search_goes_on(folder: MatrixFolder) -> None:
    def interrupt(cell: Cell) -> str:
        if cell.load == 4:
            raise KeyboardInterrupt
        return ""

    with pytest.raises(KeyboardInterrupt):
        search(folder, Runs(3, fails=interrupt))
    runs = Runs(3)
    assert search(folder, runs).held == 2.828
    assert runs.ran[0] == "logical-scale-4-r1"


def test_fresh_runs_everything_again(folder: MatrixFolder) -> None:
    count = len(search(folder, Runs(3)).outcomes)
    runs = Runs(1)
    assert search(folder, runs, fresh=True).held == 1
    assert len(runs.ran) >= 3
    assert len(list((folder.path / "aside").iterdir())) >= 3
    assert count


def test_another_profile_is_run_again(folder: MatrixFolder) -> None:
    search(folder, Runs(3))
    runs = Runs(3)
    search(folder, runs, text=TEXT.replace("duration_s: 10", "duration_s: 11"))
    assert "logical-scale-0.5-r1" in runs.ran


def test_a_suspect_run_that_held_is_not_to_be_relied_on(folder: MatrixFolder) -> None:
    runs = Runs(8, suspect_above=3)
    found = search(folder, runs)
    assert (found.held, found.broke) == (2.828, 3.084)
    assert found.at(3.084)[0].doubt == "suspect: it was slow."
    assert found.at(3.084)[0].broke == ""
    again = Runs(8, suspect_above=3)
    assert search(folder, again) == found
    assert again.ran == []


def test_a_run_that_fails_ends_the_search_of_its_mode(folder: MatrixFolder) -> None:
    found = search(folder, Runs(3, fails=lambda cell: "out of memory" if cell.load == 1 else ""))
    assert found.failure == "logical, scale 1, repeat 1: out of memory"
    assert list(found.outcomes) == [Try(0.5, 1)]


def test_loads_that_round_to_the_same_streams_are_run_once(folder: MatrixFolder) -> None:
    text = TEXT.replace("poisson, rate_per_s: 2, max_in_flight: 100", "closed, concurrency: 1").replace(
        "poisson, rate_per_s: 1, max_in_flight: 100", "closed, concurrency: 1"
    )
    runs = Runs(3)
    found = search(folder, runs, text=text)
    loads = {one.scale for one in found.outcomes}
    assert len(loads) > len({cell.rsplit("-r", 1)[0] for cell in runs.ran})
    assert "logical-scale-1-r1" not in runs.ran  # one stream each, as with half of the load


def test_nobody_to_break_an_slo() -> None:
    [variant, _] = made_variants(TEXT.replace("      slo: {ttft_ms: 500}\n", ""))
    with pytest.raises(ProfileError, match=r"e.yaml: no tenant has an slo"):
        check_slos(variant, "e.yaml")


def test_the_table_and_the_files(folder: MatrixFolder, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = made_variants()
    runs = Runs(3)
    one = Search("small", LIMITS, folder, runs, Quiet(), lambda *_: None, seed=7).run(first)  # type: ignore[arg-type]
    found = [one, ModeSearch(second, failure="it does not fit")]
    print_table(found, LIMITS, Console(width=120, highlight=False))
    text = " ".join(capsys.readouterr().out.split())
    assert f"logical × 2.828 282.8 28.3 × 3.084 {len(one.outcomes)} mps – – – – 0" in text
    assert "logical: every tenant keeps its SLO up to × 2.828; at × 3.084 this breaks: chat's: 50.0% < 95.0%" in text
    assert "mps: not known: it does not fit" in text

    paths = write_files(found, LIMITS, folder.path, "small", "")
    assert all(path.stat().st_size for path in paths)
    content = orjson.loads(paths[0].read_bytes())
    assert [(mode["mode"], mode["held"], mode["broke"], mode["failure"]) for mode in content["modes"]] == [
        ("logical", 2.828, 3.084, None),
        ("mps", None, None, "it does not fit"),
    ]
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(one.outcomes) == len(content["modes"][0]["runs"])
    assert (rows[0]["mode"], rows[0]["scale"], rows[0]["held"], rows[0]["attainment:chat"]) == (
        "logical",
        "0.5",
        "true",
        "1.0",
    )


@pytest.mark.parametrize(
    ("limit", "words"),
    [(0.1, "at × 0.5, the lowest load, this breaks: chat's: 50.0%"), (9, "every SLO holds up to × 8")],
)
def test_nothing_and_everything(
    folder: MatrixFolder, capsys: pytest.CaptureFixture[str], limit: float, words: str
) -> None:
    print_table([search(folder, Runs(limit))], LIMITS, Console(width=120, highlight=False))
    assert words in capsys.readouterr().out
