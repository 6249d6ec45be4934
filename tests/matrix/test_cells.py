from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairshare_locust.errors import FairshareError, ProfileError
from fairshare_locust.matrix.cells import expand, only, planned_s, variants
from fairshare_locust.matrix.experiment import parse_experiment
from fairshare_locust.profile import Profile
from fairshare_locust.profile.load import parse_profile
from fairshare_locust.profile.model import SimulatorOptions
from tests.matrix.experiments import BASE, experiment


def arrival(profile: Profile, tenant_id: str) -> Any:
    return next(tenant.arrival for tenant in profile.tenants if tenant.id == tenant_id)


def test_every_mode_at_every_load_as_often_as_it_is_repeated() -> None:
    cells = expand(experiment("sharing: [logical, mps]\nload: {concurrency: [1, 4]}\nrepeats: 2"))
    assert sorted(cell.id for cell in cells) == [
        "logical-concurrency-1-r1",
        "logical-concurrency-1-r2",
        "logical-concurrency-4-r1",
        "logical-concurrency-4-r2",
        "mps-concurrency-1-r1",
        "mps-concurrency-1-r2",
        "mps-concurrency-4-r1",
        "mps-concurrency-4-r2",
    ]
    assert {cell.title for cell in cells if cell.repeat == 2 and cell.load == 4} == {
        "logical, concurrency 4, repeat 2",
        "mps, concurrency 4, repeat 2",
    }


def test_repeats_have_the_same_seeds_in_every_mode() -> None:
    cells = expand(experiment("sharing: [logical, mps]\nrepeats: 3\nseed: 40"))
    for mode in ("logical", "mps"):
        seeds = {cell.repeat: cell.profile.seed for cell in cells if cell.mode == mode}
        assert seeds == {1: 40, 2: 41, 3: 42}


def test_without_a_seed_it_is_the_profiles() -> None:
    assert [cell.profile.seed for cell in expand(experiment("repeats: 2"))] == [5, 6]


def test_the_order_is_of_the_seed_and_a_repeat_is_whole_before_the_next_one_begins() -> None:
    text = "sharing: [logical, mps, timeslice]\nload: {{concurrency: [1, 2, 4]}}\nrepeats: 2\nseed: {seed}"
    orders = {seed: [cell.id for cell in expand(experiment(text.format(seed=seed)))] for seed in (1, 2)}
    assert orders[1] == [cell.id for cell in expand(experiment(text.format(seed=1)))]
    assert orders[1] != orders[2]
    assert sorted(orders[1]) == sorted(orders[2])
    first, second = orders[1][:9], orders[1][9:]
    assert all(name.endswith("-r1") for name in first)
    assert all(name.endswith("-r2") for name in second)
    assert [name[:-1] for name in first] != [name[:-1] for name in second]
    assert first != sorted(first)


def test_a_run_of_each_tenant_alone_comes_before_those_compared_with_it_once_per_mode_and_load() -> None:
    cells = expand(experiment("sharing: [logical, mps]\nload: {concurrency: [1, 4]}\nrepeats: 2\nsolo: true"))
    solos = [cell for cell in cells if cell.plan == "solo"]
    assert sorted(cell.id for cell in solos) == [
        "solo-logical-concurrency-1",
        "solo-logical-concurrency-4",
        "solo-mps-concurrency-1",
        "solo-mps-concurrency-4",
    ]
    places = {cell.id: place for place, cell in enumerate(cells)}
    for cell in cells:
        if cell.plan == "solo":
            assert cell.profile.seed == 5
            assert cell.solo is None
        else:
            assert cell.solo == f"solo-{cell.id[:-3]}"
            assert places[cell.solo] < places[cell.id]
            alone = cells[places[cell.solo]]
            assert alone.profile.tenants == cell.profile.tenants
            assert alone.profile.deployment == cell.profile.deployment


def test_one_tenant_is_alone_anyway() -> None:
    base = BASE[: BASE.index("  - id: open")]
    assert [cell.plan for cell in expand(experiment("repeats: 1\nsolo: true", base))] == ["mixed"]


def test_concurrency_is_that_of_every_closed_loop() -> None:
    [cell] = expand(experiment("load: {concurrency: [7]}\nrepeats: 1"))
    assert arrival(cell.profile, "loop").concurrency == 7
    assert arrival(cell.profile, "open").rate_per_s == 4


def test_a_rate_is_that_of_every_tenant_that_has_one() -> None:
    [cell] = expand(experiment("load: {rate_per_s: [2.5]}\nrepeats: 1"))
    assert arrival(cell.profile, "loop").concurrency == 2
    assert arrival(cell.profile, "open").rate_per_s == 2.5
    assert cell.id == "logical-rate_per_s-2.5-r1"


def test_a_batch_is_that_of_every_batch() -> None:
    base = BASE.replace("process: closed, concurrency: 2", "process: batch, size: 2")
    [cell] = expand(experiment("load: {batch: [16]}\nrepeats: 1", base))
    assert arrival(cell.profile, "loop").size == 16


def test_scale_multiplies_all() -> None:
    [cell] = expand(experiment("load: {scale: [1.5]}\nrepeats: 1"))
    assert arrival(cell.profile, "loop").concurrency == 3
    assert arrival(cell.profile, "open").rate_per_s == 6


def test_a_load_that_no_tenant_has() -> None:
    with pytest.raises(ProfileError) as caught:
        expand(experiment("load: {batch: [1]}"))
    assert str(caught.value) == (
        "load.batch: no tenant has batches (loop: closed, open: poisson); choose another kind of load"
    )


def test_overrides_of_an_engine_then_of_a_mode_then_of_quick() -> None:
    made = variants(
        experiment("""
engines: [vllm, transformers]
sharing: [logical, mps]
modes:
  transformers: {deployment: {simulator: {max_num_seqs: 1}}, run: {drain_s: 1}}
  mps: {run: {drain_s: 2}}
quick: {run: {duration_s: 1}, base: {run: {warmup_s: 0.25}}}
"""),
        engine="simulator",
        quick=True,
    )
    told = {one.name: (one.profile.deployment.simulator.max_num_seqs, one.profile.run.drain_s) for one in made}
    default = SimulatorOptions().max_num_seqs
    assert told == {
        "vllm logical": (default, 5),
        "vllm mps": (default, 2),
        "transformers logical": (1, 1),
        "transformers mps": (1, 2),
    }
    assert {one.profile.deployment.engine for one in made} == {"simulator"}
    assert {(one.profile.run.duration_s, one.profile.run.warmup_s) for one in made} == {(1, 0.25)}
    assert [one.mode for one in made] == list(told)


def test_engines_that_run_are_told_by_the_comparison_itself() -> None:
    base = BASE.replace("name: simulated", "name: some/model")
    made = variants(experiment("engines: [vllm, transformers]\nsharing: logical", base))
    assert [(one.name, one.mode, one.profile.deployment.engine) for one in made] == [
        ("vllm logical", "logical", "vllm"),
        ("transformers logical", "logical", "transformers"),
    ]


def test_one_bound_replaces_the_other() -> None:
    [one] = variants(experiment("quick: {run: {requests: 3}}"), quick=True)
    assert (one.profile.run.duration_s, one.profile.run.requests) == (None, 3)


def test_an_override_that_makes_no_profile_names_file_mode_and_key() -> None:
    with pytest.raises(ProfileError) as caught:
        expand(experiment("sharing: [logical, mps]\nmodes: {mps: {deployment: {simulator: {jitter: -1, foo: 1}}}}"))
    problems = caught.value.problems
    assert [problem.split(";")[0] for problem in problems] == [
        "trial.yaml (mps): deployment.simulator.foo: unknown key",
        "trial.yaml (mps): deployment.simulator.jitter: found -1",
    ]


def test_a_base_profile_has_its_own_errors(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("seed: 5", "seed: x"))
    read = parse_experiment("name: a\nprofile: base.yaml", source="x.yaml", folder=tmp_path)
    with pytest.raises(ProfileError, match=r"base\.yaml:3: seed: found 'x'"):
        expand(read)


def test_a_mode_that_does_not_fit_is_refused_with_its_reason_and_the_others_are_not() -> None:
    cells = expand(experiment("sharing: [logical, mig]\nrepeats: 1"))
    refused = {cell.mode: cell.refused for cell in cells}
    assert refused["logical"] == ""
    assert refused["mig"].startswith("deployment.simulator.gpu: missing, and sharing: mig needs a card")


def test_the_text_of_a_cell_is_its_profile() -> None:
    [cell] = expand(experiment("repeats: 1"))
    assert parse_profile(cell.text, source="x", folder=Path(".")) == cell.profile
    assert cell.text != replace(cell, plan="solo").text


def test_only_some_and_the_baselines_that_they_need() -> None:
    cells = expand(experiment("sharing: [logical, mps]\nload: {concurrency: [1, 4]}\nrepeats: 2\nsolo: true"))
    kept = only(cells, ["mode=mps", "load=4"])
    assert sorted(cell.id for cell in kept) == [
        "mps-concurrency-4-r1",
        "mps-concurrency-4-r2",
        "solo-mps-concurrency-4",
    ]
    assert [cell for cell in cells if cell in kept] == list(kept)
    assert len(only(cells, ["load=1,4"])) == len(cells)
    assert {cell.repeat for cell in only(cells, ["repeat=2"]) if cell.plan == "mixed"} == {2}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("mps", "--only: found 'mps'; must be KEY=VALUE, with KEY one of mode, sharing, engine, load, repeat"),
        ("mode=mpz", "--only: found mode=mpz; this experiment has logical, mps"),
        ("load=3", "--only: found load=3; this experiment has 1, 4"),
    ],
)
def test_only_what_is_not_there(condition: str, message: str) -> None:
    cells = expand(experiment("sharing: [logical, mps]\nload: {concurrency: [1, 4]}\nseed: 3"))
    with pytest.raises(FairshareError) as caught:
        only(cells, [condition])
    assert sorted(str(caught.value)) == sorted(message)  # values in the order of the cells


def test_what_is_planned_is_warm_up_and_measurement_of_every_phase() -> None:
    cells = {cell.plan: cell for cell in expand(experiment("repeats: 1\nsolo: true"))}
    assert planned_s(cells["mixed"]) == 2.5
    assert planned_s(cells["solo"]) == 5.0
