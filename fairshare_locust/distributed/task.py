"""Task: what the master tells its workers of a run, and how a worker makes itself ready for it.

A worker needs no profile of its own: the master sends it, with the servers that it has found or started. Files that
the profile names have to be on the worker's host too, where the master has them or below the worker's own folder,
with the same content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fairshare_locust.distributed.likeness import file_digest, profile_files
from fairshare_locust.errors import FairshareError, ProfileError
from fairshare_locust.load import Prepared
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile, parse_profile, resolved_yaml
from fairshare_locust.serving import Server
from fairshare_locust.serving.probe import key_of, reach
from fairshare_locust.trace import load_traces
from fairshare_locust.workload import PromptSource, prepare_prompts

__all__ = ["NotReadyError", "Task"]

# The first requests of each tenant are compared: whatever makes a difference to prompts shows in them.
_COMPARED = 3


class NotReadyError(FairshareError):
    """A worker that can't do its part. `problems` has one line for each thing that is in its way."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class _File:
    """A file that a profile names: where the master has it, and where below the master's folder, if it is there."""

    key: str
    path: str
    relative: str | None
    sha256: str


@dataclass(frozen=True)
class Task:
    """A run, as the master describes it. Holds no secret.

    Attributes:
        run: name of the run directory.
        profile: as the plan made it, as YAML.
        servers: by tenant id.
        overhead_tokens: what a server adds to a tenant's prompts, by tenant id, where that is known.
        prompt_shas: of the first requests, by tenant id.
    """

    run: str
    profile: str
    files: tuple[_File, ...]
    servers: Mapping[str, tuple[Server, ...]]
    overhead_tokens: Mapping[str, int]
    prompt_shas: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(
        cls,
        run: str,
        profile: Profile,
        prepared: Prepared,
        overhead_tokens: Mapping[str, int],
    ) -> Task:
        """The task of a run that the master has prepared. Raises OSError when one of its files has gone."""
        here = Path.cwd()
        files = []
        for key, path in profile_files(profile):
            whole = path.resolve()
            relative = str(whole.relative_to(here)) if whole.is_relative_to(here) else None
            files.append(_File(key, str(path), relative, file_digest(path)))
        return cls(
            run,
            resolved_yaml(profile),
            tuple(files),
            {tenant_id: tuple(servers) for tenant_id, servers in prepared.servers.items()},
            dict(overhead_tokens),
            {tenant_id: _shas(prompts) for tenant_id, prompts in prepared.prompts.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """For msgpack."""
        return {
            "run": self.run,
            "profile": self.profile,
            "files": [vars(file) for file in self.files],
            "servers": {tenant_id: [server.to_dict() for server in some] for tenant_id, some in self.servers.items()},
            "overhead_tokens": dict(self.overhead_tokens),
            "prompt_shas": {tenant_id: list(shas) for tenant_id, shas in self.prompt_shas.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """What `to_dict` made."""
        return cls(
            values["run"],
            values["profile"],
            tuple(_File(**file) for file in values["files"]),
            {t: tuple(Server.from_dict(server) for server in some) for t, some in values["servers"].items()},
            values["overhead_tokens"],
            {tenant_id: tuple(shas) for tenant_id, shas in values["prompt_shas"].items()},
        )

    # --- on the worker

    def obstacles(self) -> list[str]:
        """What is in the way, of the tenants' keys and of their servers as they are reached from here."""
        return list(self._obstacles())

    def prepare(self) -> tuple[Profile, Prepared]:
        """Make everything that this process needs for its part. Needs no event loop, and may take a while.

        Raises NotReadyError, with every problem that could be found.
        """
        profile = self._profile()
        try:
            traces = load_traces(profile)
            prompts = prepare_prompts(profile, phases_of(profile), traces, self.overhead_tokens)
        except FairshareError as error:
            raise NotReadyError(str(error).splitlines()) from error
        other = [tenant_id for tenant_id, source in prompts.items() if _shas(source) != self.prompt_shas[tenant_id]]
        if other:
            raise NotReadyError(
                [f"prompts of tenant {one!r} differ from the master's, though its files do not" for one in other]
            )
        return profile, Prepared(prompts, traces, self.servers)

    def _profile(self) -> Profile:
        """The master's, with the files where this host has them."""
        places: dict[str, str] = {}
        problems = []
        for file in self.files:
            candidates = [file.path, *([] if file.relative is None else [file.relative])]
            found = next((place for place in candidates if Path(place).expanduser().is_file()), None)
            if found is None:
                where = file.path if file.relative is None else f"{file.path}, and no {Path.cwd() / file.relative}"
                problems.append(f"{file.key}: there is no {where}; copy it there from the master's host")
                continue
            try:
                same = file_digest(Path(found)) == file.sha256
            except OSError as error:
                problems.append(f"{file.key}: {found} can't be read: {error.strerror}")
                continue
            if not same:
                problems.append(f"{file.key}: {found} has another content than the master's; copy the master's file")
            places[file.path] = found
        if problems:
            raise NotReadyError(problems)
        text = yaml.safe_dump(_replaced(yaml.safe_load(self.profile), places), sort_keys=False, allow_unicode=True)
        try:
            return parse_profile(text, source=f"the profile of {self.run}", folder=Path())
        except ProfileError as error:
            raise NotReadyError(error.problems) from error

    def _obstacles(self) -> Iterator[str]:
        for tenant in yaml.safe_load(self.profile)["tenants"]:
            try:
                key_of(tenant["id"], tenant["api_key_env"])
            except FairshareError as error:
                yield str(error)
        simulated = any(server.simulated for some in self.servers.values() for server in some)
        for endpoint in dict.fromkeys(server.endpoint for some in self.servers.values() for server in some):
            try:
                reach(endpoint)
            except FairshareError as error:
                hint = (
                    "; a run's own simulator listens on the master's host alone: start one that all reach with "
                    "python -m fairshare_locust serve PROFILE --listen ADDRESS, and name it with --host"
                )
                yield f"{error}{hint if simulated else ''}"


def _shas(prompts: PromptSource) -> tuple[str, ...]:
    return tuple(prompts.request(index).sha for index in range(_COMPARED))


def _replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """A plain value with some texts in it replaced, wherever they stand."""
    if isinstance(value, dict):
        return {key: _replaced(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, texts) for item in value]
    return texts.get(value, value) if isinstance(value, str) else value
