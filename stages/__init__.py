"""What runs: the stages of the DAG, and the parts that they tell their stories with."""
