"""The form of saved fits: apart from their reader, so that looking for one loads nothing else."""

FORM = "flp_ray predictor 1"
"""First field of a saved fit; to be raised when the same records would give other numbers, or the form changes."""
