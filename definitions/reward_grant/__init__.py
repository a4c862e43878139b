"""A player's achievement is rewarded, once however often it is reported (reward_grant.yaml)."""
