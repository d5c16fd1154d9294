"""Evaluation: assigns every sample, and measures the clusters."""
