"""The KV cache in blocks of 16 tokens: who holds how many, and which of them hold a prompt's beginning for others.

A sequence holds ⌈tokens / 16⌉ blocks. A full block of a prompt has an identity, equal only where all before it are
equal too. The pool keeps such blocks when nobody holds them any more, and gives them to the next prompt that begins
alike. They count as free meanwhile: what was used longest ago makes room first, of one prompt its end before its
beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

__all__ = ["BLOCK_TOKENS", "BlockPool", "BlockTable", "block_names", "blocks_of"]

BLOCK_TOKENS = 16


def blocks_of(tokens: int) -> int:
    """Blocks that so many tokens of one sequence take."""
    return -(-tokens // BLOCK_TOKENS)


@dataclass(eq=False, slots=True)
class BlockTable:
    """The blocks of one sequence. The pool keeps its account.

    Attributes:
        count: all that it holds.
        named: identities of those that others may share.
        offered: so many of its prompt's full blocks have been looked at to be named.
    """

    count: int = 0
    named: list[Hashable] = field(default_factory=list)
    offered: int = 0


class BlockPool:
    """All blocks of one KV cache.

    Attributes:
        capacity: blocks in all.
        used: blocks that some sequence holds, each counted once.
        queried_tokens: prompt tokens that were looked for among the kept blocks; never falls.
        hit_tokens: those of them that were found.
    """

    def __init__(self, capacity: int, prefix_caching: bool = True) -> None:
        self.capacity = capacity
        self.used = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self._prefix_caching = prefix_caching
        self._holders: dict[Hashable, int] = {}  # of each named block; 0: kept for later
        self._kept: OrderedDict[Hashable, None] = OrderedDict()  # those with no holder, longest unused first

    @property
    def free(self) -> int:
        """Blocks that can be taken, those kept for later among them."""
        return self.capacity - self.used

    @property
    def kept(self) -> int:
        """Blocks that nobody holds, but that a prompt could share."""
        return len(self._kept)

    def found(self, identities: Many[Hashable], tokens: int) -> int:
        """How many leading blocks of `tokens` to be computed are there already.

        At most `tokens - 1` tokens are: the last is computed in any case, since the next one comes out of it.
        """
        if not self._prefix_caching:
            return 0
        count = 0
        for identity in identities[: (tokens - 1) // BLOCK_TOKENS]:
            if identity not in self._holders:
                break
            count += 1
        return count

    def account(self, prompt_tokens: int, found: int) -> None:
        """Count a prompt that was looked for, and the blocks of it that were found."""
        if self._prefix_caching:
            self.queried_tokens += prompt_tokens
            self.hit_tokens += found * BLOCK_TOKENS

    def has_room(self, blocks: int, found: Many[Hashable] = ()) -> bool:
        """Whether a sequence of so many blocks fits in, those found there already among them."""
        taken = blocks - sum(1 for identity in found if self._holders[identity])
        return taken <= self.capacity - self.used

    def open(self, found: Many[Hashable] = ()) -> BlockTable:
        """The table of a sequence that shares the blocks found."""
        for identity in found:
            if not self._holders[identity]:
                del self._kept[identity]
                self.used += 1
            self._holders[identity] += 1
        return BlockTable(len(found), list(found), len(found))

    def grow(self, table: BlockTable, blocks: int) -> bool:
        """Let a sequence hold so many blocks; False, and nothing is changed, if there aren't enough."""
        more = blocks - table.count
        if more <= 0:
            return True
        if self.used + more > self.capacity:
            return False
        self.used += more
        table.count = blocks
        while self.used + len(self._kept) > self.capacity:
            identity, _ = self._kept.popitem(last=False)
            del self._holders[identity]
        return True

    def name(self, table: BlockTable, identities: Many[Hashable], blocks: int) -> None:
        """Let others share the first `blocks` of a prompt, which are computed.

        One that another sequence has computed as well stays private: its twin is the one to be shared.
        """
        if not self._prefix_caching or blocks <= table.offered:
            return
        for identity in identities[table.offered : blocks]:
            if identity not in self._holders:
                self._holders[identity] = 1
                table.named.append(identity)
        table.offered = blocks

    def release(self, table: BlockTable) -> None:
        """Take all blocks back; those with a name are kept until their room is needed."""
        self.used -= table.count - len(table.named)
        for identity in reversed(table.named):
            self._holders[identity] -= 1
            if not self._holders[identity]:
                self._kept[identity] = None
                self.used -= 1
        table.count = table.offered = 0
        table.named.clear()


def block_names(root: Hashable, tokens: Many[Hashable]) -> tuple[int, ...]:
    """A name for each full block of a prompt: the same only where it, and all before it and the root, are."""
    names = []
    chain = hash(root)
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        chain = hash((chain, *tokens[end - BLOCK_TOKENS : end]))
        names.append(chain)
    return tuple(names)
