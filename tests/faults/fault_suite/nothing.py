"""A module without definitions: what a worker knows that was deployed without them."""
