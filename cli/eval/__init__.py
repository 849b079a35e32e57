"""Tasks of EleutherAI's lm-evaluation-harness, answered by a pair."""
