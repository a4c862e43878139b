"""A customer is taken on by a bank: a state machine, from the phone number to the active card."""

from definitions.onboarding.workflow import onboarding

__all__ = ["onboarding"]
