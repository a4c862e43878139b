"""Doors to frameworks; each is imported by those who have the framework."""
