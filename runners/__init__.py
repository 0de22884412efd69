"""Runners: agents and job processes."""
