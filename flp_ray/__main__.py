"""`python -m flp_ray` is `flp-ray`."""

import sys

from flp_ray.cli import main

sys.exit(main())
