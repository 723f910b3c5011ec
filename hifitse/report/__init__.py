"""From rows to tables, figures, players, a page, metrics.json and the index of all reports.

In: rows, arms, comparisons, costs.
Out: tables, figures, players, pages and metrics.json. Nothing here trains.
May not import: studies, prepare or commands.

    templates/, document.py    HTML (Jinja, text is escaped) and style sheets -> pieces, players, whole pages
    figures.py, comparison_figures.py    rows and audio -> figures of one arm, of arms side by side
    tables.py, listening.py    numbers as text, tables; which test mixtures to listen to, and their sound
    show.py, show_arms.py      what a notebook displays of an arm; of a comparison and its costs
    contract.py, report.py     metrics.json: one model that writes and reads it; where reports lie, what they say of a run
    page.py, strip.py          executed notebook -> one HTML page that works offline; -> as it is committed
    compare.py                 two reports or runs on one page
    collect.py, summary.py, gallery.py    all reports; the plan's claims beside what was measured; the index
"""
