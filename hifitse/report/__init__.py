"""From rows to tables, figures, players, a page, metrics.json and the index of all reports.

In: rows.
Out: tables, figures, players, pages and metrics.json.
May not import: studies, prepare or commands.

    templates/             HTML (Jinja, text is escaped) and style sheets
    style.py, document.py  style sheets and templates -> pieces of HTML, whole pages
    players.py             audio -> players inside a page
    figures.py             rows and audio -> figures; labels.py: where the names of points and curves stand
    comparison_figures.py  arms side by side -> figures; curriculum_figure.py: a curriculum over the steps
    tables.py              numbers as text, tables
    listening.py           which test mixtures to listen to, and their sound
    show.py                what a notebook displays; show_arms.py: of a comparison; show_cost.py: of its costs
    contract.py            metrics.json: one model that writes and reads it
    report.py              where reports lie, what they say of a run
    page.py                executed notebook -> one HTML page that works offline; strip.py: -> as it is committed
    collect.py             every report's metrics.json
    summary.py             the plan's claims and what was measured; ranking.py: as tables, verdict and forest plot
    gallery.py             the index of all reports; readme.py: the tables of README.md
    compare.py             two reports, or two runs, on one page
    runs.py                the list of trainings

In: arms, comparisons, costs. Out: HTML, PNG, JSON. Nothing here trains; ``studies`` and ``commands`` may not be imported.
"""
