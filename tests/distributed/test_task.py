"""What a worker is told of a run, and what may be in its way."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from fairshare_locust.client.dialects import EVERY_OPTION, ServerFamily
from fairshare_locust.distributed.task import NotReadyError, Task
from fairshare_locust.load import Prepared
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile, load_profile
from fairshare_locust.serving import Server
from fairshare_locust.workload import prepare_prompts

PROFILE = """
name: task
seed: 4
run: {warmup_s: 0, duration_s: 5}
model: {name: tiny}
tenants:
  - id: file
    api_key_env: TASK_KEY
    arrival: {process: poisson, rate_per_s: 2}
    workload: {source: jsonl, path: prompts.jsonl, output_tokens: 4}
  - id: words
    arrival: {process: constant, rate_per_s: 2}
    workload: {source: synthetic, input_tokens: 9, output_tokens: 4}
phases: [{name: one, tenants: [file]}, {name: both}]
"""


@pytest.fixture
def endpoint() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The profile, in the folder that the master works in."""
    home = tmp_path / "master"
    home.mkdir()
    (home / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    (home / "profile.yaml").write_text(PROFILE)
    monkeypatch.chdir(home)
    monkeypatch.setenv("TASK_KEY", "secret-key")
    return load_profile(Path("profile.yaml"))


def task_of(profile: Profile, endpoint: str, overheads: Mapping[str, int] | None = None) -> Task:
    family = ServerFamily("vllm", ignore_eos=True, takes=EVERY_OPTION)
    server = Server(endpoint, "external", "logical", family, "tiny", headers=(("X-Whose", "chat"),))
    prompts = prepare_prompts(profile, phases_of(profile), {}, overheads or {})
    servers = {tenant.id: (server,) for tenant in profile.tenants}
    return Task.of("20260101T000000Z-task", profile, Prepared(prompts, {}, servers), overheads or {})


def sent(task: Task) -> Task:
    """As it arrives on the other side."""
    packed = msgpack.packb(task.to_dict())
    assert b"secret-key" not in packed
    return Task.from_dict(msgpack.unpackb(packed))


def test_it_arrives_as_it_was(master: Profile, endpoint: str) -> None:
    task = task_of(master, endpoint, {"words": 3})
    arrived = sent(task)
    assert arrived == task
    assert arrived.obstacles() == []
    profile, prepared = arrived.prepare()
    assert profile == replace(master, tenants=profile.tenants)
    assert phases_of(profile) == phases_of(master)
    for tenant in ("file", "words"):
        own = [prepared.prompts[tenant].request(index).sha for index in range(10)]
        theirs = prepare_prompts(master, phases_of(master), {}, {"words": 3})[tenant]
        assert own == [theirs.request(index).sha for index in range(10)]


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker's host, where the master's folder is not."""
    home = tmp_path / "worker"
    home.mkdir()
    (tmp_path / "master").rename(tmp_path / "gone")
    monkeypatch.chdir(home)
    return home


def test_files_may_stand_below_the_workers_own_folder(
    master: Profile, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sent(task_of(master, endpoint))
    home = elsewhere(tmp_path, monkeypatch)
    with pytest.raises(NotReadyError) as caught:
        task.prepare()
    [problem] = caught.value.problems
    places = f"{tmp_path / 'master' / 'prompts.jsonl'}, and no {home / 'prompts.jsonl'}"
    assert problem == f"tenants[0].workload.path: there is no {places}; copy it there from the master's host"
    (home / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    profile, _ = task.prepare()
    assert profile.tenants[0].id == "file"


def test_another_content_is_refused(
    master: Profile, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sent(task_of(master, endpoint))
    home = elsewhere(tmp_path, monkeypatch)
    (home / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "three"}\n')
    with pytest.raises(NotReadyError, match=r"prompts\.jsonl has another content than the master's"):
        task.prepare()


def test_keys_and_servers_are_looked_for_here(master: Profile, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
    task = sent(task_of(master, gone))
    monkeypatch.delenv("TASK_KEY")
    key, server = task.obstacles()
    assert key == "tenant 'file': api_key_env names TASK_KEY, which is not set; export it with the key"
    assert server == f"{gone} can't be reached from {socket.gethostname()}: Connection refused"


def test_prompts_that_come_out_otherwise_are_refused(master: Profile, endpoint: str) -> None:
    task = task_of(master, endpoint)
    other = replace(task, prompt_shas={**task.prompt_shas, "words": ("0" * 16,) * 3})
    with pytest.raises(
        NotReadyError, match="prompts of tenant 'words' differ from the master's, though its files do not"
    ):
        other.prepare()
