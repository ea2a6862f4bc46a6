"""Entry point of `ray job submit`: runs a study on the cluster that the job was sent to.

    ray job submit --working-dir . -- python jobs/run_study.py jobs/smoke.yaml [--study-dir DIR]

The working directory of a job is a copy that goes away. A relative `storage` therefore starts at $FLP_RAY_STORAGE, a
shared folder or a bucket (s3://, gs://) that the cluster's file sets; by default the folder `flp_ray` in the home
directory, so that a study submitted again goes on.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the code that was shipped, installed or not

from flp_ray.cli import main

if __name__ == "__main__":
    os.environ.setdefault("FLP_RAY_STORAGE", str(Path.home() / "flp_ray"))
    sys.exit(main(["run", *sys.argv[1:]]))
