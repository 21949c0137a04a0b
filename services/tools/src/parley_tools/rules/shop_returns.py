"""Whether something may come back, for what, and how much is refunded: a business's return policy as a decision.

It knows no order and no customer, only what was bought, how long ago it arrived, why it is to go back and what is
wanted for it.

Law: equal questions get equal answers; a refusal says which rule it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from parley_tools.files import DataPart
from parley_tools.rules.shop_totals import ZERO

Reason = Literal["too small", "too large", "changed mind", "damaged", "wrong item", "not as described"]
Wanted = Literal["refund", "exchange", "store credit"]
Rule = Literal[
    "approved", "not_delivered", "final_sale", "not_returnable", "store_credit_only", "outside_window"
]


class ReturnPolicy(DataPart):
    """data/returns.yaml."""

    window_days: int = Field(gt=0)
    """For a refund or an exchange, counted from delivery."""
    store_credit_window_days: int = Field(gt=0)
    """For store credit."""
    our_fault_window_days: int = Field(gt=0)
    """For what arrived damaged, wrong or not as described."""
    our_fault_reasons: tuple[Reason, ...]
    label_fee_usd: Decimal = Field(ge=0)
    """Taken off a refund that is not our fault."""
    never_categories: tuple[str, ...] = ()
    """Not taken back unless it is our fault."""

    @model_validator(mode="after")
    def _windows_widen(self) -> Self:
        if not self.window_days <= self.store_credit_window_days:
            raise ValueError("store_credit_window_days must not be shorter than window_days")
        return self


@dataclass(frozen=True, slots=True)
class Asked:
    """What a customer wants to send back."""

    category: str
    paid: Decimal
    """For this item, after discounts."""
    days_since_delivery: int | None
    """Null: it has not arrived."""
    reason: Reason
    wanted: Wanted
    is_final_sale: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says. ``amount`` is what comes back as money or credit; nothing for an exchange."""

    rule: Rule
    amount: Decimal = ZERO
    label_fee: Decimal = ZERO

    @property
    def is_approved(self) -> bool:
        return self.rule == "approved"


def decide(policy: ReturnPolicy, asked: Asked) -> Decision:
    """Return what ``policy`` says to ``asked``; the first rule that applies counts."""
    days = asked.days_since_delivery
    if days is None:
        return Decision("not_delivered")
    if asked.reason in policy.our_fault_reasons:
        within = days <= policy.our_fault_window_days
        return _approved(asked, fee=ZERO) if within else Decision("outside_window")
    if asked.is_final_sale:
        return Decision("final_sale")
    if asked.category in policy.never_categories:
        return Decision("not_returnable")
    if days <= policy.window_days:
        return _approved(asked, fee=policy.label_fee_usd)
    if days > policy.store_credit_window_days:
        return Decision("outside_window")
    return _approved(asked, fee=ZERO) if asked.wanted == "store credit" else Decision("store_credit_only")


def _approved(asked: Asked, *, fee: Decimal) -> Decision:
    if asked.wanted == "exchange":
        return Decision("approved")
    if asked.wanted == "store credit":
        return Decision("approved", amount=asked.paid)
    fee = min(fee, asked.paid)
    return Decision("approved", amount=asked.paid - fee, label_fee=fee)
