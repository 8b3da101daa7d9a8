"""When and where the DAG runs."""
