"""Runs in a notebook: the pages' figures as methods."""
