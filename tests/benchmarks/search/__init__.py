"""Replays of whole searches: a strategy sees a run only after paying for it, and is judged by a truth it never sees.

    problem.py            what a strategy is given on a planted world, and what it answers
    regmix_table.py       the same on a finished table: RegMix's 512 runs of a 1M model
    worlds.py             the worlds, their goals and their judges
    replay.py             one strategy on one world and seed: the bill against the regret, and the cost to the goal
    runs.py               all of them, in processes, each kept in a file so that a bench goes on where it stopped
    strategies.py         who competes where
    baselines_target.py   random, Sobol, TPE and Gaussian process straight on runs of the target's size
    baselines_grid.py     a full grid over the ladder, read by FLP-M
    baselines_swarm.py    RegMix and Olmix: many runs of one small size, one regression, one proposal
    baselines_table.py    the regressions alone, on RegMix's table
    boosting.py, log_linear.py   the regressions of RegMix and of Olmix
    summary.py, figure.py        one table, one JSON file, one figure

The baselines are our reading of published methods; each says which settings are theirs and which are ours.
"""
