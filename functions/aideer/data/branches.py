"""Branches of a chat: which threads its shown path leads through. This module reads and writes no table.

The messages of a branch are one thread. The main branch begins at the chat's first message. Every other branch continues a message
of its parent, so it has only the messages behind that one. The shown path leads from the main branch to the shown branch, and its
segments follow each other in n. The branches that continue the same message are siblings.

A chat stores its branches only if it has more than one. So a chat of release 0.1.0 is its main branch. The shown branch's count and
next n are those of the chat, because appended messages and answers change only these.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

MAIN = "main"
SIBLINGS = 20
"""The most branches that continue one message."""
BRANCHES = 100
"""The most branches of a chat. They are stored on the chat's item, about 110 bytes each."""
SEGMENTS = 20
"""The most segments of a path. Each costs a query of its own."""


class Segment(NamedTuple):
    """The messages of a thread from `first` to `last`, or to its end."""

    thread: str
    first: int = 1
    last: int | None = None

    def clip(self, low: int, high: int) -> tuple[int, int] | None:
        """Return the part of the range from `low` to `high` that is in this segment, or None."""
        bottom, top = max(low, self.first), high if self.last is None else min(high, self.last)
        return (bottom, top) if bottom <= top else None


Path = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch: it continues the message `after` of its parent. The main branch has no parent."""

    id: str
    parent: str | None = None
    after: int = 0
    before: int = 0
    """The number of messages up to and including `after`, on the path to this branch."""
    count: int = 0
    """The number of its own messages."""
    next: int = 1
    """The n of its next message."""

    @property
    def total(self) -> int:
        """The number of messages on the path to this branch's end."""
        return self.before + self.count


class Tree:
    """The branches of one chat. Its methods change it, and `to_fields` returns what is to be stored."""

    def __init__(self, thread: str, shown: str, branches: Iterable[Branch]) -> None:
        self._thread = thread
        self._branches = {branch.id: branch for branch in branches}
        self.shown = shown

    @classmethod
    def load(
        cls, thread: str, shown: str | None, stored: Iterable[Mapping[str, Any]] | None, count: int, next_n: int
    ) -> "Tree":
        """Return the branches as a chat stores them. `count` and `next_n` are the chat's, and so the shown branch's."""
        shown = shown or MAIN
        tree = cls(thread, shown, [Branch(**fields) for fields in stored or ({"id": MAIN},)])
        leaf = tree._branches[shown]
        tree._branches[shown] = replace(leaf, count=count - leaf.before, next=next_n)
        return tree

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the chat: branch, branches, message_count and next_n. None stands for an absent field."""
        leaf = self._branches[self.shown]
        branched = len(self._branches) > 1
        return {
            "branch": self.shown if branched else None,
            "branches": [asdict(branch) for branch in self._branches.values()] if branched else None,
            "message_count": leaf.total,
            "next_n": leaf.next,
        }

    @property
    def ids(self) -> list[str]:
        """The ids of all branches, from the oldest on."""
        return list(self._branches)

    @property
    def path(self) -> Path:
        """The segments of the shown path. There is always one, and the last one is open."""
        return tuple(segment for _, segment in self._segments())

    @property
    def threads(self) -> list[str]:
        """The threads of all branches."""
        return [self._thread_of(branch_id) for branch_id in self._branches]

    @property
    def total(self) -> int:
        """The number of messages on the shown path."""
        return self._branches[self.shown].total

    def find_alternatives(self, n: int) -> list[str]:
        """Return the branches that continue the message `n` of the shown path, 0 for its beginning.

        The first one is the branch of that message, if it has later messages of its own.
        """
        holder = self._branches[self._find_holder(n)]
        children = [branch for branch in self._branches.values() if (branch.parent, branch.after) == (holder.id, n)]
        goes_on = holder.id == self.shown or not children or holder.total > children[0].before
        return [holder.id] * goes_on + [branch.id for branch in children]

    def find_next(self, n: int) -> str:
        """Return the branch in which the shown path goes on behind its message `n`."""
        segments = list(self._segments())
        return next((branch_id for branch_id, segment in segments if segment.last is None or segment.last > n), MAIN)

    def has_room(self, n: int) -> bool:
        """Return whether one branch more may continue the message `n` of the shown path."""
        few = len(self.find_alternatives(n)) < SIBLINGS and len(self._branches) < BRANCHES
        depth = [branch_id for branch_id, _ in self._segments()].index(self._find_holder(n)) + 2 if n else 2
        return few and depth <= SEGMENTS

    def fork(self, branch_id: str, after: int, before: int, next_n: int, count: int) -> None:
        """Add a branch with `count` messages behind the message `after` of the shown path, and show it."""
        parent = self._find_holder(after)
        self._branches[branch_id] = Branch(branch_id, parent, after, before, count, next_n)
        self.shown = branch_id

    def remove(self, n: int, previous: int) -> None:
        """Remove the message `n` of the shown path. `previous` is the n of the message before it, or 0.

        The branches that continued it continue `previous` instead. Call `settle` afterwards.
        """
        holder, above = self._find_holder(n), self._find_holder(previous)
        after: dict[str, Branch] = {}
        for branch in self._branches.values():
            changed = branch
            if branch.id == holder:
                changed = replace(changed, count=branch.count - 1)
            elif self._passes(branch, holder, n):
                changed = replace(changed, before=branch.before - 1)
            if (branch.parent, branch.after) == (holder, n):
                changed = replace(changed, parent=above, after=previous)
            after[branch.id] = changed
        self._branches = after

    def settle(self) -> None:
        """Drop the branches that have no message left. If the path ends where branches begin, go on into one of them."""
        leaf = self._branches[self.shown]
        while leaf.parent is not None and not leaf.count:
            leaf = self._branches[leaf.parent]
        # No branch continues an empty one. `remove` has moved such branches to the message before.
        self._branches = {each.id: each for each in self._branches.values() if each.parent is None or each.count}
        while endings := self._endings(leaf):
            leaf = endings[0]
        self.shown = leaf.id

    def show(self, branch_id: str) -> bool:
        """Show a branch to its end. Return False if there is no such branch."""
        if branch_id not in self._branches:
            return False
        self.shown = branch_id
        self.settle()
        return True

    def _endings(self, leaf: Branch) -> list[Branch]:
        """Return the branches that continue the last message of a branch."""
        children = (branch for branch in self._branches.values() if branch.parent == leaf.id)
        return [branch for branch in children if branch.before == leaf.total]

    def _segments(self) -> Iterator[tuple[str, Segment]]:
        lineage: list[tuple[str, Segment]] = []
        branch, last = self._branches[self.shown], None
        while True:
            lineage.append((branch.id, Segment(self._thread_of(branch.id), branch.after + 1, last)))
            if branch.parent is None:
                break
            branch, last = self._branches[branch.parent], branch.after
        return ((name, each) for name, each in reversed(lineage) if each.last is None or each.last >= each.first)

    def _thread_of(self, branch_id: str) -> str:
        return self._thread if branch_id == MAIN else f"{self._thread}#{branch_id}"

    def _find_holder(self, n: int) -> str:
        """Return the branch that the message `n` of the shown path belongs to."""
        return next((branch_id for branch_id, segment in self._segments() if segment.clip(n, n)), MAIN)

    def _passes(self, branch: Branch, holder: str, n: int) -> bool:
        """Return whether the path to a branch has the message `n` of the branch `holder`, which is not the branch itself."""
        while branch.parent is not None:
            if branch.parent == holder:
                return n <= branch.after
            branch = self._branches[branch.parent]
        return False
