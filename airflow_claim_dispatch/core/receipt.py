"""What a publisher gets back."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal[
    "published", "duplicate", "skipped",  # publishing
    "cancelled", "rescheduled", "in_flight", "settled", "missing",  # cancel and reschedule
]  # fmt: skip


class Receipt(dict[str, Any]):
    """What became of a call, and the id of the action it met, if there is one.

    A dict, so that a task can return it: Airflow stores it as an XCom without having to be told
    that it may load a class of ours.
    """

    def __init__(self, status: Status, action_id: int | None = None) -> None:
        self["status"] = status  # one by one: that takes half as long as all of them at once
        self["id"] = action_id

    @property
    def status(self) -> Status:
        """``published``, ``duplicate`` or ``skipped`` (a gate said no) after publishing."""
        status: Status = self["status"]
        return status

    @property
    def id(self) -> int | None:
        """The action's id; for a duplicate, the id of the one that is already there."""
        action_id: int | None = self["id"]
        return action_id
