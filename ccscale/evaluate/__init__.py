"""Assignments and how good they are."""
