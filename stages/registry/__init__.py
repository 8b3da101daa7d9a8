"""The only way to MLflow: looks up what it has, and writes into it."""
