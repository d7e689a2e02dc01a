"""Tests of server code: runners, pipeline, triggers."""
