from fairshare_locust.matrix.end import _once


def test_that_repeats_have_other_seeds_is_said_once() -> None:
    pairs = "solo run x has seed 7, this run {}: requests are not compared in pairs"
    assert _once(["a", pairs.format(8), "b", pairs.format(9)]) == (
        "a",
        "b",
        "2 runs have other seeds than those of each tenant alone, which stand for all repeats: there, requests are not "
        "compared in pairs",
    )
    assert _once(["a"]) == ("a",)
