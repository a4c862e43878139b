"""What the onboarding's transitions do: text messages, vendors for identity and sanctions lists, the bank's core."""

from __future__ import annotations

import hmac
import secrets
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from definitions import books
from orchestrator import BusinessError, StepContext, TransientError, activity

#: Phones whose network takes a message and loses its first answer.
LOSSY = "+999"


class Phone(BaseModel):
    """The machine's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone: str = Field(pattern=r"^\+[0-9]{6,15}$", examples=["+85620555123"])


class WrongCode(BusinessError):
    """The code is not the one that was sent."""


class UnderAge(BusinessError):
    """Customers must be adults."""


@activity
def send_otp(ctx: StepContext, phone: str) -> dict[str, str]:
    """Send a code by text message. An attempt that is repeated sends nothing new: the code is kept under its key.

    The output does not hold the code, so that the ledger does not.
    """
    with books.opened(f"sms/{ctx.execution_id}") as messages:
        # Made from chance, once: whoever comes again under the same key is given what was sent.
        code = f"{secrets.randbelow(1_000_000):06d}"
        messages.post("otp", ctx.idempotency_key, {"phone": phone, "code": code})
    if phone.startswith(LOSSY) and ctx.attempt == 1:
        raise TransientError("the network's answer was lost")
    return {"phone": phone}


@activity
def verify_otp(ctx: StepContext, code: str) -> dict[str, bool]:
    """Compare a code with the one that was sent last; WrongCode if it is another."""
    with books.opened(f"sms/{ctx.execution_id}") as messages:
        sent = messages.last("otp")
    if sent is None or not hmac.compare_digest(sent.data["code"].encode(), code.encode()):
        raise WrongCode
    return {"verified": True}


@activity
def save_profile(ctx: StepContext, name: str, birth_year: int, year: int) -> dict[str, Any]:
    """Keep the customer's profile; UnderAge for minors."""
    if year - birth_year < 18:
        raise UnderAge(f"born in {birth_year}")
    with books.opened(f"customer/{ctx.execution_id}") as customer:
        return customer.post("profile", ctx.idempotency_key, {"name": name, "birth_year": birth_year}).data


@activity
def store_document(ctx: StepContext, kind: str, number: str) -> dict[str, str]:
    """Keep an identity document."""
    with books.opened(f"customer/{ctx.execution_id}") as customer:
        return customer.post("document", ctx.idempotency_key, {"kind": kind, "number": number}).data


@activity
def submit_ekyc(ctx: StepContext) -> dict[str, str]:
    """Hand the latest document to the identity vendor, who answers later, by the event EKYC_RESULT."""
    with books.opened(f"customer/{ctx.execution_id}") as customer:
        document = customer.last("document")
    with books.opened("ekyc") as vendor:
        number = "" if document is None else document.data["number"]
        return vendor.post("submit", ctx.idempotency_key, {"case": f"kyc-{len(vendor.entries)}-{number}"}).data


@activity
def screen_aml(ctx: StepContext) -> dict[str, str]:
    """Ask for a comparison with sanctions lists; the answer comes later, by the event AML_RESULT."""
    with books.opened(f"customer/{ctx.execution_id}") as customer:
        profile = customer.last("profile")
    with books.opened("aml") as vendor:
        name = "" if profile is None else profile.data["name"]
        return vendor.post("screen", ctx.idempotency_key, {"name": name, "case": f"aml-{len(vendor.entries)}"}).data


@activity
def create_account(ctx: StepContext) -> dict[str, str]:
    """Open the account."""
    with books.opened("bank/accounts") as accounts:
        number = f"AC{len(accounts.entries) + 1:08d}"
        return accounts.post("create_account", ctx.idempotency_key, {"account": number}).data


@activity
def create_wallet(ctx: StepContext, account: str) -> dict[str, str]:
    """Open a wallet on the account."""
    with books.opened("bank/wallets") as wallets:
        return wallets.post("create_wallet", ctx.idempotency_key, {"wallet": f"W-{account}"}).data


@activity
def activate_card(ctx: StepContext, wallet: str) -> dict[str, str]:
    """Activate a card for the wallet."""
    with books.opened("bank/cards") as cards:
        return cards.post("activate_card", ctx.idempotency_key, {"card": f"C-{wallet}"}).data


@activity(name="UNDO_CARD_ACTIVATION")
def undo_card_activation(ctx: StepContext) -> bool:
    """Block the card."""
    with books.opened("bank/cards") as cards:
        return cards.take_back(ctx, "block_card")


@activity(name="UNDO_WALLET_CREATION")
def undo_wallet_creation(ctx: StepContext) -> bool:
    """Close the wallet."""
    with books.opened("bank/wallets") as wallets:
        return wallets.take_back(ctx, "close_wallet")


@activity(name="UNDO_ACCOUNT_CREATION")
def undo_account_creation(ctx: StepContext) -> bool:
    """Close the account."""
    with books.opened("bank/accounts") as accounts:
        return accounts.take_back(ctx, "close_account")
