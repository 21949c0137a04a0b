"""The customers of a bank as they are on file, their accounts and cards, and the one this session has verified."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from parley_tools.kit import (
    DataFile,
    DataPart,
    Field,
    Kept,
    Person,
    RecordKind,
    Refused,
    ToolContext,
)
from parley_tools.rules.bank_statement import Transaction

CUSTOMER = "verified:customer"
AccountKind = Literal["checking", "savings", "credit_card", "loan"]
CardKind = Literal["debit", "credit"]


class Customer(DataPart):
    """One customer, and what they alone know."""

    number: str
    name: str
    born: date
    security_word: str
    phone: str
    email: str

    @property
    def person(self) -> Person:
        return Person(name=self.name, email=self.email, phone=self.phone)

    @property
    def first_name(self) -> str:
        return self.name.split(" ")[0]


class Account(DataPart):
    """One account; what is owed is below zero."""

    number: str
    customer: str
    kind: AccountKind
    name: str
    balance_usd: Decimal
    available_usd: Decimal | None = None
    """Null: the balance."""


class Customers(DataPart):
    """data/customers.yaml."""

    note: str
    customers: tuple[Customer, ...] = Field(min_length=1)
    accounts: tuple[Account, ...]

    def get(self, number: str) -> Customer | None:
        return next((each for each in self.customers if each.number == number), None)


class Transactions(DataPart):
    """data/transactions.yaml."""

    note: str
    transactions: tuple[Transaction, ...]


class Card(DataPart):
    """One card, as it now is."""

    id: str
    customer: str
    kind: CardKind
    last4: str = Field(pattern=r"^\d{4}$")
    account: str
    status: Literal["active", "frozen"] = "active"
    frozen_for: str | None = None
    """Why; null while it is active."""
    case_reference: str | None = None


CUSTOMERS = DataFile("customers.yaml", Customers)
TRANSACTIONS = DataFile("transactions.yaml", Transactions)
CARDS = RecordKind("card", Card, seed="cards.yaml")


def verified_customer(ctx: ToolContext) -> Customer:
    """Return the customer of this session, for tools that declare ``needs=(CUSTOMER,)``.

    Raises:
        Refused: code ``customer_gone``: they were on file when they were verified, and are not any more.
    """
    customer = ctx.data(CUSTOMERS).get(ctx.verified("customer"))
    if customer is None:
        raise Refused("I can't find your file any more. A banker can help.", code="customer_gone")
    return customer


def accounts_of(ctx: ToolContext, customer: Customer, kind: AccountKind | None = None) -> list[Account]:
    """Return a customer's accounts, of one kind if it is given.

    Raises:
        Refused: code ``account_not_found``: they have none of that kind; the sentence names what they have.
    """
    mine = [each for each in ctx.data(CUSTOMERS).accounts if each.customer == customer.number]
    wanted = [each for each in mine if kind in (None, each.kind)]
    if not wanted:
        names = " and ".join(each.name for each in mine) or "no account"
        raise Refused(f"I don't see that account. You have {names}.", code="account_not_found")
    return wanted


async def cards_of(ctx: ToolContext, customer: Customer) -> list[Kept[Card]]:
    """Return a customer's cards, for tools that declare ``records=(CARDS,)``."""
    return [each for each in await ctx.records.all(CARDS) if each.data.customer == customer.number]


def usd(amount: Decimal) -> str:
    """Return an amount as it is said, without a sign: "$1,204.50", "$12"."""
    whole = abs(amount)
    return f"${whole:,.0f}" if whole == whole.to_integral_value() else f"${whole:,.2f}"
