"""The law of the search: mixture and size in one Gaussian process a domain, a Bayesian line a task.

Eq. 5 with priors on its numbers and with what it leaves out, so that a few runs of any sizes give a prediction for
the target, how sure it is, and what one more run would teach.
"""

from flp_ray.fit.joint.fitting import fit_joint
from flp_ray.fit.joint.surrogate import JointSurrogate

__all__ = ["JointSurrogate", "fit_joint"]
