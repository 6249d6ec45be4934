"""Processes of a server, found by its process tree."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from fairshare_locust.telemetry.processes import owner

Start = Callable[[str], tuple[int, int]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a shell script in a session of its own, on a pipe of ours; the shell's pid, and the pid that it says."""
    shells: list[subprocess.Popen[bytes]] = []

    def run(script: str) -> tuple[int, int]:
        shell = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        shells.append(shell)
        assert shell.stdout is not None
        return shell.pid, int(shell.stdout.readline())

    yield run
    for shell in shells:
        shell.communicate()  # the end of their input ends them


def test_a_server_owns_itself() -> None:
    assert owner(os.getpid(), {os.getpid(): "chat"}) == "chat"


def test_a_grandchild_is_its_servers(start: Start) -> None:
    shell, pid = start("exec 3<&0; sh -c 'echo $$; cat <&3; :'; :")
    assert pid != shell
    assert owner(pid, {shell: "chat"}) == "chat"
    assert owner(pid, {1_000_000_000: "batch"}) is None


def test_the_nearest_server_counts(start: Start) -> None:
    shell, pid = start("echo $$; cat; :")
    assert owner(pid, {os.getpid(): "the run", shell: "chat"}) == "chat"
    assert owner(pid, {os.getpid(): "the run"}) == "the run"


def test_a_process_whose_parent_has_ended_is_its_sessions(start: Start) -> None:
    shell, pid = start("exec 3<&0; cat <&3 & echo $!")
    os.waitpid(shell, 0)
    assert owner(pid, {shell: "chat"}) == "chat"


def test_a_process_that_has_ended_is_nobodys() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert owner(ended.pid, {os.getpid(): "chat"}) is None


def test_a_name_with_brackets_and_spaces_does_not_confuse(start: Start) -> None:
    shell, pid = start("sh -c 'printf \"a) S 1 (b\" > /proc/$$/comm; echo $$; cat; :'; :")
    assert owner(pid, {shell: "chat"}) == "chat"
