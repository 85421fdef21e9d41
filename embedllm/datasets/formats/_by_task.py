"""Names by task: options of the form `TASK=NAME`, and tables of patterns of task names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

V = TypeVar("V")

Names = str | Sequence[str] | None
"""A name, or several: `TASK=NAME` for tasks that match a pattern such as `mmlu_*`, and `NAME` for all that have it."""


def known(table: Mapping[str, V], task: str) -> V | None:
    """Return what a table has for a task: that of the first pattern that matches.

    Examples
    --------
    >>> from embedllm.datasets.formats._by_task import known
    >>> known({"arc_*": "acc_norm"}, "arc_easy"), known({"arc_*": "acc_norm"}, "blimp")
    ('acc_norm', None)
    """
    return next((value for pattern, value in table.items() if fnmatchcase(task, pattern)), None)


class Named:
    """The names that an option gives.

    Parameters
    ----------
    option : str
        As users know it, for messages.
    given : str, sequence of str or None
    """

    def __init__(self, option: str, given: Names) -> None:
        pairs = [text.rpartition("=") for text in ([given] if isinstance(given, str) else given or [])]
        self.option = option
        self.own = {task: name for task, _, name in pairs if task}
        self.default = next((name for task, _, name in reversed(pairs) if not task), None)
        self._tasks: set[str] = set()
        self._names: set[str] = set()

    def choose(self, task: str, there: Iterable[str], where: str) -> str | None:
        """Return the name for a task, or None if it has none, or is not there and was not named for this task.

        Raises
        ------
        ValueError
            If a name was given for this task, and it is not there.
        """
        name, there = known(self.own, task), list(there)
        self._tasks.add(task)
        self._names.update(there)
        if name is not None and name not in there:
            raise ValueError(f"{where} has no {name!r}; it has {there}: name one of these ({self.option})")
        return name or (self.default if self.default in there else None)

    def check_used(self) -> None:
        """Check that each pattern matched a task that was asked for, and that the name for all was there.

        Raises
        ------
        ValueError
            If not.
        """
        for pattern in self.own:
            if not any(fnmatchcase(task, pattern) for task in self._tasks):
                raise ValueError(f"no task is named {pattern!r} ({self.option}); there are {sorted(self._tasks)}")
        if self.default is not None and self.default not in self._names:
            raise ValueError(f"no file has {self.default!r} ({self.option}); there are {sorted(self._names)}")
