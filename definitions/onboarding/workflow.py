"""The machine.

The customer moves it with NEXT, the identity and sanctions vendors with their results, an analyst with a REVIEW. What
the vendors cannot decide is reviewed; who is asked for a better document sends it by RESUBMITTED. When the sanctions
list says no late, card, wallet and account are undone in that order.
"""

from __future__ import annotations

from definitions.onboarding.activities import (
    Phone,
    activate_card,
    create_account,
    create_wallet,
    save_profile,
    screen_aml,
    send_otp,
    store_document,
    submit_ekyc,
    undo_account_creation,
    undo_card_activation,
    undo_wallet_creation,
    verify_otp,
)
from orchestrator import RetryPolicy, machine, step, transition

_UNTOUCHED = "24h"
#: States with something to undo, and those before them.
_OPENED = ["ACCOUNT_CREATED", "WALLET_CREATED", "CARD_ACTIVATED"]
_EARLY = [
    "PHONE_ENTERED",
    "OTP_VERIFIED",
    "PROFILE_COMPLETED",
    "DOC_UPLOADED",
    "EKYC_PENDING",
    "EKYC_MANUAL_REVIEW",
    "EKYC_REVISION",
    "EKYC_APPROVED",
    "AML_PENDING",
    "AML_CLEARED",
]
_DOCUMENT = {"kind": "{{ event.payload.kind }}", "number": "{{ event.payload.number }}"}
_RESULT = {"type": "object", "required": ["decision"], "properties": {"decision": {"type": "string"}}}

onboarding = machine(
    "onboarding",
    initial="PHONE_ENTERED",
    states=[*_EARLY, *_OPENED, "COMPLETED", "EKYC_REJECTED", "AML_REJECTED", "EXPIRED"],
    final=["COMPLETED", "EKYC_REJECTED", "AML_REJECTED", "EXPIRED"],
    transitions=[
        # By itself, once: it leads back to the same state, and its condition holds no longer.
        transition(
            "PHONE_ENTERED",
            "PHONE_ENTERED",
            condition="{{ default(steps.send_otp.output, null) == null }}",
            steps=[step("send_otp", send_otp, {"phone": "{{ input.phone }}"}, on_error="retry")],
        ),
        transition(
            "PHONE_ENTERED",
            "OTP_VERIFIED",
            event="NEXT",
            actors="user",
            steps=[step("verify_otp", verify_otp, {"code": "{{ event.payload.code }}"})],
        ),
        transition(
            "OTP_VERIFIED",
            "PROFILE_COMPLETED",
            event="NEXT",
            actors="user",
            steps=[
                step(
                    "save_profile",
                    save_profile,
                    {
                        "name": "{{ event.payload.name }}",
                        "birth_year": "{{ event.payload.birth_year }}",
                        "year": "{{ number(format_time(now(), '%Y')) }}",
                    },
                )
            ],
        ),
        transition(
            "PROFILE_COMPLETED",
            "DOC_UPLOADED",
            event="NEXT",
            actors="user",
            steps=[step("store_document", store_document, _DOCUMENT)],
        ),
        transition(
            "DOC_UPLOADED", "EKYC_PENDING", event="NEXT", actors="user", steps=[step("submit_ekyc", submit_ekyc)]
        ),
        transition(
            "EKYC_PENDING",
            "EKYC_APPROVED",
            event="EKYC_RESULT",
            actors="system",
            condition="{{ event.payload.decision == 'approved' }}",
        ),
        transition(
            "EKYC_PENDING",
            "EKYC_MANUAL_REVIEW",
            event="EKYC_RESULT",
            actors="system",
            condition="{{ event.payload.decision == 'review' }}",
        ),
        transition(
            "EKYC_PENDING",
            "EKYC_REJECTED",
            event="EKYC_RESULT",
            actors="system",
            condition="{{ event.payload.decision == 'rejected' }}",
        ),
        transition(
            "EKYC_MANUAL_REVIEW",
            "EKYC_APPROVED",
            event="REVIEW",
            actors="analyst",
            condition="{{ event.payload.decision == 'approve' }}",
        ),
        transition(
            "EKYC_MANUAL_REVIEW",
            "EKYC_REJECTED",
            event="REVIEW",
            actors="analyst",
            condition="{{ event.payload.decision == 'reject' }}",
        ),
        transition(
            "EKYC_MANUAL_REVIEW",
            "EKYC_REVISION",
            event="REVIEW",
            actors="analyst",
            condition="{{ event.payload.decision == 'revision' }}",
        ),
        transition(
            "EKYC_REVISION",
            "EKYC_MANUAL_REVIEW",
            event="RESUBMITTED",
            actors="user",
            steps=[step("store_better_document", store_document, _DOCUMENT), step("submit_again", submit_ekyc)],
        ),
        transition("EKYC_APPROVED", "AML_PENDING", steps=[step("screen_aml", screen_aml, on_error="retry")]),
        transition(
            "AML_PENDING",
            "AML_CLEARED",
            event="AML_RESULT",
            actors="system",
            condition="{{ event.payload.decision == 'clear' }}",
        ),
        transition(
            "AML_CLEARED",
            "ACCOUNT_CREATED",
            event="NEXT",
            actors="user",
            steps=[step("create_account", create_account, compensation=undo_account_creation)],
        ),
        transition(
            "ACCOUNT_CREATED",
            "WALLET_CREATED",
            event="NEXT",
            actors="user",
            steps=[
                step(
                    "create_wallet",
                    create_wallet,
                    {"account": "{{ steps.create_account.output.account }}"},
                    compensation=undo_wallet_creation,
                )
            ],
        ),
        transition(
            "WALLET_CREATED",
            "CARD_ACTIVATED",
            event="NEXT",
            actors="user",
            steps=[
                step(
                    "activate_card",
                    activate_card,
                    {"wallet": "{{ steps.create_wallet.output.wallet }}"},
                    compensation=undo_card_activation,
                )
            ],
        ),
        transition("CARD_ACTIVATED", "COMPLETED", event="NEXT", actors="user"),
        # Sanctions lists change: the answer may be taken back until all is completed.
        transition(
            ["AML_PENDING", "AML_CLEARED", *_OPENED],
            "AML_REJECTED",
            event="AML_RESULT",
            actors="system",
            condition="{{ event.payload.decision == 'hit' }}",
            compensate=True,
        ),
        transition(_EARLY, "EXPIRED", after=_UNTOUCHED),
        transition(_OPENED, "EXPIRED", after=_UNTOUCHED, compensate=True),
    ],
    input=Phone,
    signals={"EKYC_RESULT": _RESULT, "AML_RESULT": _RESULT, "REVIEW": _RESULT},
    retry=RetryPolicy(max_attempts=5, backoff=0.2, max_delay=5.0),
)
