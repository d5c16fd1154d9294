"""Backbone, heads and the network."""
