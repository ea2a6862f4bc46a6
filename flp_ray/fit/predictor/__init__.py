"""Tables of finished runs -> predictions of larger ones: every law and link, chosen by roll-outs.

    question = question_of(records, domains=None, tasks=None)         what to fit on, what to compare
    backtest = run_backtest(question, ["flp", "auto"], source="...")   fit, predict the targets, compare
    predictor = fit_predictor(sampling_table(records, None, None), ["auto"])
    predictor.named("auto", queries)                                   scores and losses with intervals

Stage 1 (power_forms, floor_law, surface) goes from size, tokens and mixture to losses; stage 2 (lines, sigmoid,
network_link) from losses to scores. `methods` names the pairs, `rollout` scores them on the sampling runs alone,
`auto` combines them, `calibration` turns their spread into intervals. Needs numpy and scipy.
"""
