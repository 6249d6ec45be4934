"""What the web form may ask for, and that nothing else gets through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import FairshareError
from fairshare_locust.live.profiles import Settings, checked_form, profile_choices

CHOICES = {"profiles/demo.yaml": Path("profiles/demo.yaml")}


def test_choices_are_the_yaml_files_of_the_folder(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", "prompts.jsonl", ".hidden.yaml"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.yaml").mkdir()
    assert profile_choices(tmp_path) == {str(path): path for path in (tmp_path / "a.yaml", tmp_path / "b.yaml")}
    assert profile_choices(tmp_path / "absent") == {}


def test_the_profile_of_the_command_line_is_offered_first_and_once(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    inside, outside = tmp_path / "profiles" / "a.yaml", tmp_path / "own.yaml"
    inside.write_text("")
    outside.write_text("")
    assert list(profile_choices(tmp_path / "profiles", outside)) == [str(outside), str(inside)]
    other_spelling = tmp_path / "profiles" / ".." / "profiles" / "a.yaml"
    assert profile_choices(tmp_path / "profiles", other_spelling) == {str(other_spelling): other_spelling}


def test_a_form_as_the_page_posts_it() -> None:
    posted = {
        "user_count": "6",
        "spawn_rate": "6",
        "run_time": "1h30m",
        "host": "http://127.0.0.1:8000",
        "fairshare_profile": "profiles/demo.yaml",
        "fairshare_scale": "0.5",
        "fairshare_seed": "0",
        "plugin_option": "x",
    }
    assert checked_form(posted, CHOICES, {"plugin_option"}) == Settings(
        CHOICES["profiles/demo.yaml"], 0.5, 0, "http://127.0.0.1:8000"
    )


def test_empty_fields_ask_for_nothing() -> None:
    empty = {"fairshare_profile": "", "fairshare_scale": "", "fairshare_seed": "", "host": "", "run_time": ""}
    assert checked_form(empty, CHOICES) == Settings() == checked_form({}, CHOICES)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("fairshare_profile", "/etc/passwd", "profile: found '/etc/passwd'; must be one of profiles/demo.yaml"),
        ("fairshare_profile", "profiles/../profiles/demo.yaml", "must be one of profiles/demo.yaml"),
        ("fairshare_profile", "profiles/demo.yaml\0", "must be one of"),
        ("fairshare_profile", ["profiles/demo.yaml"], "found a list; must be text"),
        ("fairshare_scale", "0", "greater than 0"),
        ("fairshare_scale", "nan", "greater than 0"),
        ("fairshare_scale", "1e300", "greater than 0"),
        ("fairshare_scale", 2.0, "found a float; must be text"),
        ("fairshare_seed", "-1", "whole number from 0"),
        ("fairshare_seed", "9" * 1900, "whole number from 0"),
        ("fairshare_seed", "9" * 5000, "found 5000 characters"),
        ("host", "file:///etc/passwd", "is no http:// or https:// URL"),
        ("host", "http://", "is no http:// or https:// URL"),
        ("host", "http://user:word@host", "is no http:// or https:// URL"),
        ("host", "http://a<b>c", "no < or >"),
        ("user_count", "0", "users: found '0'"),
        ("user_count", "1000000000", "users: found '1000000000'"),
        ("user_count", "1" * 1900, "users: found"),
        ("user_count", "٣", "users: found"),
        ("spawn_rate", "inf", "ramp up: found 'inf'"),
        ("spawn_rate", "x", "ramp up: found 'x'"),
        ("run_time", "9" * 400, "run time: found"),
        ("run_time", "soon", "run time: found 'soon'"),
        ("run_time", "999999h", "at most 30 days"),
        ("fairshare_out", "/tmp", "field 'fairshare_out': the form has no such field"),
        ("locustfile", "/etc/passwd", "field 'locustfile': the form has no such field"),
        ("csv_prefix", "/tmp/x", "field 'csv_prefix': the form has no such field"),
    ],
)
def test_what_is_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(FairshareError) as refused:
        checked_form({field: value}, CHOICES)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 2500


@given(
    values=st.dictionaries(
        st.sampled_from(["fairshare_profile", "fairshare_scale", "fairshare_seed", "host", "user_count", "run_time"])
        | st.text(),
        st.text() | st.integers() | st.none() | st.binary(),
    )
)
def test_whatever_is_posted_is_settings_or_told(values: dict[str, object]) -> None:
    try:
        settings = checked_form(values, CHOICES)
    except FairshareError:
        return
    assert settings.profile in (None, *CHOICES.values())
    assert settings.scale is None or 0 < settings.scale <= 1e6
    assert settings.seed is None or 0 <= settings.seed < 2**63
    assert settings.endpoint is None or settings.endpoint.startswith(("http://", "https://"))
