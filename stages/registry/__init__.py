"""The one door to MLflow: what it holds, and what is written into it."""
