"""From a rollout's text to its reward: verdict.py parses, consistency.py compares text and verdict, preference.py
adds it up.

Rewards never pay for errors: a text that is no verdict earns nothing for its answer, a consistency judge that fails
counts as neutral, and both show in the metrics.
"""
