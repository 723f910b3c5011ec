"""From rows to tables, figures, players, a page, metrics.json and the index of all reports.

In: rows, arms, comparisons, costs.
Out: tables, figures, players, pages and metrics.json. Nothing here trains.
May not import: studies, prepare or commands.

    templates/, page.py        HTML (Jinja, text is escaped) and style sheets -> pieces, pages that work offline; notebooks as pages
    strip.py                   a git filter: a notebook as JupyterLab saves it -> as it is committed
    figures.py, tables.py      rows, histories and intervals -> figures; -> numbers as text, and tables
    listening.py               which test mixtures to listen to, their sound, spectrograms and players
    show.py, show_arms.py      what a notebook displays of an arm; of a comparison and its costs
    contract.py, report.py     metrics.json: one model that writes and reads it; where reports lie, what they say of a run
    collect.py                 all reports that lie here; two of them, or two runs, on one page
    summary.py, gallery.py     the plan's claims beside what was measured; the index, and the numbers of README.md
"""
