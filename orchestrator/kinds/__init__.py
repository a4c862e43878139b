"""Step kinds: what a step does that calls no activity. A new kind is a file here and a line in kinds.py."""
