"""Notes: what a user should know of a tenant's servers before believing its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from fairshare_locust.client.dialects import ServerFamily, asked_options
from fairshare_locust.profile.model import Tenant
from fairshare_locust.serving.server import Server

__all__ = ["server_notes", "unsupported"]


def server_notes(tenant: Tenant, servers: Sequence[Server]) -> tuple[str, ...]:
    """All that is to be said of a tenant's servers, a sentence each, none twice."""
    notes = [note for server in servers for note in unsupported(tenant, server.family)]
    overheads = {server.prompt_overhead_tokens for server in servers}
    if None in overheads:
        notes.append(
            "how many tokens its server adds to a prompt (chat template, start token) can't be known: the server "
            "counts prompts otherwise than model.tokenizer does, or tells no count"
        )
    elif len(overheads) > 1:
        notes.append("its servers do not add the same number of tokens to a prompt (chat template, start token)")
    return tuple(dict.fromkeys(notes))


def unsupported(tenant: Tenant, family: ServerFamily) -> tuple[str, ...]:
    """What the tenant asks for in vain, or perhaps in vain, of a server of this family: a sentence for each."""
    server = "this server" if family.name == "unknown" else family.name
    asked = asked_options(tenant.sampling, tenant.priority, tenant.cache_salt)
    notes = [f"{option} is not taken by {server}; it is not sent" for option in asked if option not in family.takes]
    if "priority" in asked and "priority" in family.takes and not family.by_priority:
        notes.append(_priority_in_vain(family, server))
    return tuple(notes)


def _priority_in_vain(family: ServerFamily, server: str) -> str:
    if family.by_priority is False:
        return f"priority is sent, but {server} serves first come, first served (its scheduling policy is not priority)"
    started = "was started with --scheduling-policy priority" if server == "vllm" else "schedules by it, lower first"
    return f"priority is sent, but counts only if {server} {started}, which can't be seen from outside"
