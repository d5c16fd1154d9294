"""Encoded bytes to pixels and views."""
