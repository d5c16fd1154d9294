"""Verbs of living clusters."""
