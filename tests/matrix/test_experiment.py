from pathlib import Path

import pytest

from fairshare_locust.errors import ProfileError
from fairshare_locust.matrix.experiment import load_experiment, parse_experiment
from tests.matrix.experiments import experiment

REPOSITORY = Path(__file__).resolve().parents[2]


def problems(text: str, folder: Path = Path(".")) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse_experiment(text, source="x.yaml", folder=folder)
    return caught.value.problems


def test_what_is_left_out_has_a_default() -> None:
    read = experiment()
    assert (read.sharing, read.engines, read.load, read.repeats, read.solo, read.seed) == ((), (), None, 3, False, None)
    assert read.quick.repeats == 1


def test_one_mode_needs_no_list() -> None:
    assert experiment("sharing: mps").sharing == ("mps",)


def test_loads_have_a_name_and_values() -> None:
    load = experiment("load: {scale: [0.5, 2]}").load
    assert load is not None
    assert (load.name, load.values) == ("scale", (0.5, 2.0))


def test_all_problems_are_told_at_once_with_line_key_and_what_is_allowed() -> None:
    text = """name: a b
sharing: [mps, mps, mpz]
load: {concurrency: [1, 0]}
repeats: 0
solos: true
quick: {run: 3}
"""
    assert problems(text) == [
        "x.yaml:5: solos: unknown key; allowed: name, seed, profile, base, sharing, engines, modes, load, repeats, "
        "cooldown_s, solo, quick; did you mean 'solo'?",
        "x.yaml:1: name: found 'a b'; must be letters, digits, ., - or _ (63 at most)",
        "x.yaml:2: sharing[2]: found 'mpz'; must be one of logical, mps, timeslice, mig, mig_emulated; did you mean "
        "'mps'?",
        "x.yaml:3: load.concurrency[1]: found 0; must be a whole number, at least 1 and at most 10000",
        "x.yaml:4: repeats: found 0; must be a whole number, at least 1 and at most 100",
        "x.yaml:6: quick.run: found 3; must be a mapping of keys to values",
        "x.yaml:1: profile: missing; give the path of a profile, or the keys of one as base",
        "x.yaml:2: sharing[1]: found 'mps' again; sharing[0] is the same",
    ]


def test_one_kind_of_load() -> None:
    assert problems("name: a\nbase: {name: b}\nload: {scale: [1], concurrency: [1]}") == [
        "x.yaml:3: load: found concurrency, scale; must be exactly one of concurrency, batch, rate_per_s, scale"
    ]
    assert problems("name: a\nbase: {name: b}\nload: {}") == [
        "x.yaml:3: load: found none; must be exactly one of concurrency, batch, rate_per_s, scale"
    ]


def test_a_load_has_values() -> None:
    assert problems("name: a\nbase: {name: b}\nload: {scale: []}") == [
        "x.yaml:3: load.scale: found an empty list; give at least one value"
    ]


def test_a_value_stands_once() -> None:
    assert problems("name: a\nbase: {name: b}\nload: {concurrency: [1, 2, 1]}") == [
        "x.yaml:3: load.concurrency[2]: found 1 again; concurrency[0] is the same"
    ]


def test_overrides_are_of_modes_and_engines_of_the_experiment() -> None:
    assert problems("name: a\nbase: {name: b}\nsharing: [logical, mps]\nmodes:\n  mpz: {seed: 1}") == [
        "x.yaml:5: modes.mpz: found 'mpz'; modes and engines of this experiment: logical, mps; did you mean 'mps'?"
    ]


def test_a_key_twice_in_an_override() -> None:
    assert problems("name: a\nbase: {name: b}\nsharing: mps\nmodes:\n  mps:\n    seed: 1\n    seed: 2") == [
        "x.yaml:7: modes.mps.seed: found twice; the first is on line 6"
    ]


def test_an_override_is_a_mapping() -> None:
    assert problems("name: a\nbase: {name: b}\nsharing: mps\nmodes: {mps: fast}") == [
        "x.yaml:4: modes.mps: found 'fast'; must be a mapping of keys to values"
    ]


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    [problem] = problems("name: a\nprofile: there.yaml", tmp_path)
    assert problem == (
        f"x.yaml:2: profile: found 'there.yaml'; {tmp_path.resolve()}/there.yaml can't be read: No such file or "
        "directory"
    )


def test_an_experiment_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="can't be read: No such file or directory; name an experiment"):
        load_experiment(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_those_that_come_with_it_can_be_read(path: Path) -> None:
    assert load_experiment(path).name == path.stem
