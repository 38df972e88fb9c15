"""The branches of a chat, beside a plain tree of messages that says what must be shown."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideer.data.branches import BRANCHES, MAIN, SEGMENTS, SIBLINGS, Path, Segment, Tree

THREAD = "chat#generation"


@dataclass(eq=False)
class Node:
    """A message of the plain tree. `branch` is the id of its branch."""

    label: int
    branch: str
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)


class Plain:
    """A tree of messages, and the message at which the shown path ends."""

    def __init__(self) -> None:
        self.root = self.leaf = Node(0, MAIN)

    @property
    def path(self) -> list[Node]:
        nodes, node = [], self.leaf
        while node.parent:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def nodes(self) -> list[Node]:
        found, left = [], [self.root]
        while left:
            node = left.pop()
            found.append(node)
            left += node.children
        return found[1:]

    def add(self, parent: Node, label: int, branch: str) -> None:
        self.leaf = Node(label, branch, parent)
        parent.children.append(self.leaf)

    def settle(self) -> None:
        """Go on to the end: in the same branch if it goes on, and else in the oldest one."""
        while self.leaf.children:
            self.leaf = next_of(self.leaf)

    def remove(self, node: Node) -> None:
        assert node.parent
        siblings = node.parent.children
        siblings.remove(node)
        for child in node.children:
            child.parent = node.parent
        siblings += node.children
        if self.leaf is node:
            self.leaf = node.parent


def next_of(node: Node) -> Node:
    own = [child for child in node.children if child.branch == node.branch]
    return own[0] if own else min(node.children, key=lambda child: AGES[child.branch])


AGES: dict[str, int] = {}


class Stored:
    """A chat's fields and its threads, as the tables have them."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {"branch": None, "branches": None, "message_count": 0, "next_n": 1}
        self.threads: dict[str, dict[int, int]] = {}

    @property
    def tree(self) -> Tree:
        fields = self.fields
        return Tree.load(THREAD, fields["branch"], fields["branches"], fields["message_count"], fields["next_n"])

    def read(self, path: Path | None = None) -> list[tuple[int, int]]:
        """The (n, label) of a path."""
        found = []
        for thread, first, last in path or self.tree.path:
            for n, label in sorted(self.threads.get(thread, {}).items()):
                assert first <= n
                if last is None or n <= last:
                    found.append((n, label))
        return found

    def add(self, label: int) -> None:
        n = self.fields["next_n"]
        self.threads.setdefault(self.tree.path[-1].thread, {})[n] = label
        self.fields["next_n"] += 1
        self.fields["message_count"] += 1

    def thread_of(self, n: int) -> dict[int, int]:
        return next(self.threads[part.thread] for part in self.tree.path if part.clip(n, n))


class Both:
    """What is stored and the plain tree, changed alike."""

    def __init__(self) -> None:
        AGES.clear()
        AGES[MAIN] = 0
        self.stored, self.plain, self.labels = Stored(), Plain(), count(1)

    def append(self) -> None:
        label, leaf = next(self.labels), self.plain.leaf
        self.stored.add(label)
        self.plain.add(leaf, label, self.stored.tree.shown)

    def branch(self, place: int) -> None:
        shown = self.stored.read()
        n, after = shown[place][0], shown[place - 1][0] if place else 0
        tree, label = self.stored.tree, next(self.labels)
        if not tree.has_room(after):
            return
        branch = f"b{label}"
        AGES[branch] = label
        tree.fork(branch, after, place, n + 1, 1)
        self.stored.threads[tree.path[-1].thread] = {n: label}
        self.stored.fields = tree.to_fields()
        self.plain.add(self.plain.path[place].parent or self.plain.root, label, branch)

    def switch(self, place: int, wanted: int) -> None:
        tree = self.stored.tree
        choices = tree.find_alternatives(([0] + [n for n, _ in self.stored.read()])[place])
        branch = choices[wanted % len(choices)]
        node = ([self.plain.root, *self.plain.path])[place]
        assert tree.show(branch)
        self.stored.fields = tree.to_fields()
        [self.plain.leaf] = [child for child in node.children if child.branch == branch or len(node.children) == 1] or [
            node
        ]
        self.plain.settle()

    def remove(self, place: int, *, following: bool) -> None:
        shown, nodes, tree = self.stored.read(), self.plain.path, self.stored.tree
        gone = range(place, len(shown) if following else place + 1)
        shared = following and any(len(tree.find_alternatives(shown[i][0])) > 1 for i in gone)
        assert shared == (following and any(len(nodes[i].children) > 1 for i in gone))
        if shared:
            return
        for i in reversed(gone):
            del self.stored.thread_of(shown[i][0])[shown[i][0]]
            tree.remove(shown[i][0], shown[i - 1][0] if i else 0)
            self.plain.remove(nodes[i])
        tree.settle()
        self.stored.fields = tree.to_fields()
        self.plain.settle()

    def regenerate(self) -> None:
        shown = self.stored.read()
        thread, n, label = self.stored.thread_of(shown[-1][0]), self.stored.fields["next_n"], next(self.labels)
        del thread[shown[-1][0]]
        thread[n] = label
        self.stored.fields["next_n"] += 1
        self.plain.leaf.label = label

    def check(self) -> None:
        shown, nodes, tree = self.stored.read(), self.plain.path, self.stored.tree
        assert [label for _, label in shown] == [node.label for node in nodes]
        assert tree.total == self.stored.fields["message_count"] == len(nodes)
        ns = [n for n, _ in shown]
        assert ns == sorted(set(ns))
        assert self.stored.fields["next_n"] > max(ns, default=0)
        kept = sorted(label for thread in self.stored.threads.values() for label in thread.values())
        assert kept == sorted(node.label for node in self.plain.nodes())
        held = {thread for thread, messages in self.stored.threads.items() if messages}
        assert held <= set(tree.threads)
        for n, node in zip([0, *ns], [self.plain.root, *nodes], strict=True):
            if node.children:
                choices = tree.find_alternatives(n)
                assert len(choices) == len(node.children)
                assert len(choices) <= SIBLINGS or n == 0
        assert len(tree.path) <= SEGMENTS
        assert len(tree.ids) <= BRANCHES

    def reach(self, target: Node) -> None:
        """Show a message, by switching at each of the messages above it."""
        above: list[Node] = []
        node = target
        while node.parent:
            above.append(node)
            node = node.parent
        for place, wanted in enumerate(reversed(above)):
            if self.plain.path[place] is not wanted:
                parent = wanted.parent
                assert parent
                tree = self.stored.tree
                choices = tree.find_alternatives(([0] + [n for n, _ in self.stored.read()])[place])
                for number in range(len(choices)):
                    self.switch(place, number)
                    if self.plain.path[place] is wanted:
                        break
            assert self.plain.path[place] is wanted


STEPS = st.tuples(
    st.sampled_from(
        ["append", "append", "branch", "branch", "switch", "switch", "remove", "remove", "cut", "regenerate"]
    ),
    st.integers(0, 50),
    st.integers(0, 20),
)


@settings(max_examples=400, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_the_shown_path_is_that_of_a_plain_tree_and_nothing_unshown_is_lost(steps: list[tuple[str, int, int]]) -> None:
    both = Both()
    for what, place, choice in steps:
        shown = len(both.plain.path)
        if what == "append" or not shown:
            both.append()
        elif what == "branch":
            both.branch(place % shown)
        elif what == "switch":
            both.switch(place % (shown + 1), choice)
        elif what == "regenerate":
            both.regenerate()
        else:
            both.remove(place % shown, following=what == "cut")
        both.check()
    for node in both.plain.nodes():
        both.reach(node)
        both.check()


def test_a_chat_without_branches_stores_none() -> None:
    tree = Tree.load(THREAD, None, None, 4, 9)
    assert tree.path == (Segment(THREAD),)
    assert tree.threads == [THREAD]
    assert tree.to_fields() == {"branch": None, "branches": None, "message_count": 4, "next_n": 9}
    assert not tree.show("another")


def test_the_last_branch_that_goes_leaves_a_chat_without_branches() -> None:
    tree = Tree.load(THREAD, None, None, 4, 5)
    tree.fork("b", 2, 2, 4, 1)
    assert tree.path == (Segment(THREAD, 1, 2), Segment(f"{THREAD}#b", 3, None))
    tree.remove(3, 2)
    tree.settle()
    assert tree.to_fields() == {"branch": None, "branches": None, "message_count": 4, "next_n": 5}


def test_a_branch_that_loses_its_last_message_while_another_is_shown_is_dropped() -> None:
    tree = Tree.load(THREAD, None, None, 4, 5)
    tree.fork("b", 2, 2, 5, 2)
    tree.fork("c", 3, 3, 6, 2)  # it goes on from the first message of b
    assert tree.show("b")
    tree.remove(4, 3)
    tree.settle()
    assert tree.shown == "c"
    tree.remove(3, 2)
    tree.settle()
    assert tree.find_alternatives(2) == [MAIN, "c"]
    assert tree.show(MAIN)
    for n, previous in ((4, 3), (3, 2)):
        tree.remove(n, previous)
    tree.settle()
    assert (tree.shown, tree.total) == ("c", 4)


def test_branches_are_limited_in_number_and_in_depth() -> None:
    tree = Tree.load(THREAD, None, None, 2, 3)
    for number in range(SIBLINGS - 1):
        assert tree.has_room(1)
        tree.fork(f"b{number}", 1, 1, 3, 1)
    assert not tree.has_room(1)
    assert tree.has_room(2)
    deep = Tree.load(THREAD, None, None, 2, 3)
    for number in range(2, SEGMENTS + 1):
        assert deep.has_room(number)
        deep.fork(f"b{number}", number, number, number + 2, 1)
    assert not deep.has_room(SEGMENTS + 1)
    assert deep.has_room(SEGMENTS)


@pytest.mark.parametrize(
    ("low", "high", "part"), [(1, 9, (3, 5)), (4, 4, (4, 4)), (5, 9, (5, 5)), (6, 9, None), (1, 2, None)]
)
def test_a_segment_has_a_part_of_a_range(low: int, high: int, part: tuple[int, int] | None) -> None:
    assert Segment(THREAD, 3, 5).clip(low, high) == part
