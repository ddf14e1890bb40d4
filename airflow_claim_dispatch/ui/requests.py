"""What requests may say; what the log itself refuses, it refuses in its own words."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from airflow_claim_dispatch.storage.listing import MOST
from airflow_claim_dispatch.storage.looking import Order
from airflow_claim_dispatch.storage.states import Filter, State

_LARGEST_ID = 2**63 - 1
#: Ids that one request may name.
_MOST_IDS = 10_000


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are no ids")  # noqa: TRY004  pydantic's way
    return value


Id = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=_LARGEST_ID)]
#: Read by the log itself, as the shell's are.
MomentText = Annotated[str, Field(max_length=100)]
IdInPath = Annotated[int, Path(ge=1, le=_LARGEST_ID, description="The action's id")]


class Which(BaseModel):
    """Which actions are meant; what is left out does not matter."""

    model_config = ConfigDict(extra="forbid")

    states: list[State] = Field([], description="Any of these states")
    types: list[str] = Field([], max_length=1_000, description="Any of these types")
    key: str | None = Field(None, description="The idempotency key, whole")
    text: str | None = Field(
        None,
        description="Text that the stored payload contains; needs PUT on the connection",
    )
    end_from: AwareDatetime | None = Field(None, description="`end_at` at this time or later")
    end_until: AwareDatetime | None = Field(None, description="`end_at` before this time")
    ids: list[Id] | None = Field(None, max_length=_MOST_IDS, description="These and no others")

    def filter(self) -> Filter:
        """Return the same in the log's words. Raises InvalidFilter."""
        return Filter(**{name: getattr(self, name) for name in Which.model_fields})


class Listing(Which):
    """A filter, and the page to return."""

    limit: int = Field(50, ge=1, le=MOST, description="Actions on the page, at most")
    after: str | None = Field(None, description="Where the page before this one ended")
    order: Order | None = Field(
        None,
        description="`soonest` and `latest` are for unsettled actions; by default `soonest` for"
        " those, `newest` else",
    )


class Plans(BaseModel):
    """A claim that is only thought of."""

    at: MomentText | None = Field(
        None, description="ISO 8601 with offset, or `PT5M` from now; by default now"
    )
    limit: int = Field(1_000, ge=1, le=MOST, description="Actions that it would take, at most")


class Task(BaseModel):
    """A DAG run of Airflow, or one of its task instances."""

    dag_id: str
    run_id: str
    task_id: str | None = Field(None, description="Without it, the whole run is meant")
    map_index: int | None = Field(None, ge=-1, description="-1 for a task that is not mapped")


class Decide(BaseModel):
    """A decision about actions. A filter that says nothing is refused."""

    model_config = ConfigDict(extra="forbid")

    which: Which
    at_most: int | None = Field(None, ge=1, le=_LARGEST_ID, description="Change no more than this")


class Reschedule(Decide):
    """A decision that moves actions to another time."""

    end_at: MomentText = Field(
        description="The new earliest time: ISO 8601 with offset, or `PT5M` from now"
    )


class OfType(BaseModel):
    """A decision about a type."""

    model_config = ConfigDict(extra="forbid")

    type: str


class Purge(BaseModel):
    """A decision to delete what has outlived its retention."""

    model_config = ConfigDict(extra="forbid")

    retention: dict[str, dict[str, str | None] | str | None] | None = Field(
        None,
        max_length=1_000,
        description="ISO 8601 durations by type and outcome, and `decisions`; by default the"
        " setting",
    )
    dry_run: Annotated[bool, Field(description="Count it, and delete nothing")] = False
    after: str | None = Field(None, description="Where the request before this one stopped")


class Trail(BaseModel):
    """A page of the audit trail."""

    limit: int = Field(50, ge=1, le=MOST)
    before: Id | None = Field(None, description="The last decision of the page before this one")
