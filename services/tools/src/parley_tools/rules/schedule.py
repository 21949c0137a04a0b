"""What data/scheduling.yaml may say: how long things take, who does them and when; made into a calendar of slots.

Hours and time zone are the business's own (business.yaml) unless a resource has hours of its own.

Law: a service names only resources that there are; a file that does not say who is there is refused.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from parley_common.business import Business
from parley_common.business_config import Hours
from parley_tools.files import DataFile, DataPart
from parley_tools.refusals import Refused
from parley_tools.rules.slots import Calendar


class Holiday(DataPart):
    """A day on which nothing is booked."""

    date: date
    name: str


class Away(DataPart):
    """Days on which one resource is not there, the last one included."""

    first: date
    last: date


class Resource(DataPart):
    """Who or what is booked: a person, a room, a bay."""

    name: str = Field(max_length=64)
    hours: Hours | None = None
    """Null: the business's own."""
    away: tuple[Away, ...] = ()


class Service(DataPart):
    """Something that can be booked."""

    name: str = Field(max_length=64)
    also: tuple[str, ...] = ()
    """Other words callers have for it."""
    duration_min: int = Field(ge=5, le=480)
    buffer_min: int | None = Field(default=None, ge=0, le=240)
    """Null: the schedule's own."""
    resources: tuple[str, ...] = ()
    """Who does it; empty: everybody."""


def _named(raw: object) -> object:
    """A resource may be written as its name alone."""
    return {"name": raw} if isinstance(raw, str) else raw


class Scheduling(DataPart):
    """data/scheduling.yaml."""

    slot_min: int = Field(ge=5, le=480)
    """How long a booking is, and how far apart slots begin when there are services."""
    buffer_min: int = Field(default=0, ge=0, le=240)
    min_notice_min: int = Field(default=60, ge=0)
    days_ahead: int = Field(default=14, ge=1, le=120)
    resources: tuple[Annotated[Resource, BeforeValidator(_named)], ...] = Field(min_length=1)
    """In the order they are asked."""
    services: tuple[Service, ...] = ()
    """Empty: one kind of booking, ``slot_min`` long."""
    holidays: tuple[Holiday, ...] = ()

    @model_validator(mode="after")
    def _services_name_resources(self) -> Scheduling:
        known = {each.name for each in self.resources}
        for service in self.services:
            if strangers := set(service.resources) - known:
                raise ValueError(
                    f"service {service.name!r} names no resource: {', '.join(sorted(strangers))}"
                )
        return self

    def service(self, said: str) -> Service | None:
        """Return the service that a caller means by its name or another word for it; null when none."""
        words = f" {said.strip().lower()} "
        for each in self.services:
            if any(
                f" {name.lower()} " in words or words.strip() == name.lower()
                for name in (each.name, *each.also)
            ):
                return each
        return None


SCHEDULING = DataFile("scheduling.yaml", Scheduling)


def calendar_of(
    business: Business, data: Scheduling, service: Service | None = None, resource: str | None = None
) -> Calendar:
    """Return when ``service`` can be booked with ``resource``, or with anybody who does it.

    Raises:
        Refused: this resource does not do this; the sentence names who does.
    """
    able = service.resources if service and service.resources else tuple(r.name for r in data.resources)
    if resource is not None and resource not in able:
        raise Refused(f"{resource} can't do that. I can offer {' or '.join(able)}.", code="wrong_resource")
    buffer = service.buffer_min if service and service.buffer_min is not None else data.buffer_min
    return Calendar(
        hours=business.config.hours,
        zone=business.zone,
        slot=timedelta(minutes=service.duration_min if service else data.slot_min),
        buffer=timedelta(minutes=buffer),
        min_notice=timedelta(minutes=data.min_notice_min),
        days_ahead=data.days_ahead,
        holidays={each.date: each.name for each in data.holidays},
        resources=(resource,) if resource else able,
        own_hours={each.name: each.hours for each in data.resources if each.hours},
        away={each.name: tuple((a.first, a.last) for a in each.away) for each in data.resources},
        step=timedelta(minutes=data.slot_min) if service else None,
    )


def resource_named(data: Scheduling, said: str | None) -> str | None:
    """Return the resource that a caller means ("doctor Reyes"); null when they name none.

    Raises:
        Refused: nobody is called that, or more than one; the sentence says who there is.
    """
    words = set((said or "").lower().replace(".", " ").split())
    if not words or words & {"any", "anyone", "anybody", "whoever", "either", "first"}:
        return None
    fitting = [r.name for r in data.resources if words & _telling_words(r.name)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(fitting or [r.name for r in data.resources])
    raise Refused(f"Who would you like to see? I have {names}.", code="resource_not_understood")


def _telling_words(name: str) -> set[str]:
    return set(name.lower().replace(".", " ").split()) - {"dr", "doctor", "mr", "ms", "mrs", "the", "room"}
