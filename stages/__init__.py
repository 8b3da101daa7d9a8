"""What runs: the stages of the DAG, and the parts that they tell their stories with."""

import os

# Of this process when it began: libraries take seconds to import, and even Python a moment, in
# which the parent may end. So DVC's shell says it (dvc.yaml), if DVC started this.
PARENT = int(os.environ.pop("REFIT_PARENT", "") or os.getppid())
