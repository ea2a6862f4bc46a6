"""The only part of flp_ray that knows Ray: cluster, trials, the store actor, the surrogate actor, failures.

One study uses, beside the driver:
    - one Tune trial per run, in a long-lived process per slot (training and measuring in the same process);
    - one store actor, the only writer of the study's tables;
    - one surrogate actor, which refits as records arrive.
"""
