"""From rows to tables, figures, players, a page, metrics.json and the index of all reports.

    style.py               colours and sizes that all figures and pages share
    document.py            the frame of every HTML page
    lettering.py           names in any script inside figures
    figures.py             rows and audio -> figures
    labels.py              where the names of points and curves stand in a figure
    curriculum_figure.py   a curriculum over the steps -> a figure
    comparison_figures.py  arms side by side -> figures
    players.py             audio -> players inside a page
    tables.py              rows -> tables
    listening.py           which test mixtures to listen to, and their sound
    report.py              folders, verdicts, metrics.json
    show.py                what a notebook displays
    show_arms.py           what a notebook displays of a comparison
    show_cost.py           what a notebook displays of its costs
    collect.py             every report's metrics.json, read with suspicion
    summary.py             the plan's claims and what was measured
    ranking.py             the summary as tables, verdict and forest plot
    gallery.py             the index of all reports
    side.py                one of two runs to compare, as its folder has it
    side_by_side.py        two runs on one page
    page.py                executed notebook -> one HTML page that works offline
"""
