"""What runs: the stages of the DAG, and the parts that they tell their stories with."""

import os

PARENT = (
    os.getppid()
)  # of this process when it began: libraries take seconds to import, in which the parent may end
