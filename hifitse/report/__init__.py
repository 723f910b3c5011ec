"""Turn evaluation rows into tables, figures, audio players, pages, metrics.json and an index of all reports.

In: rows, arms, comparisons, costs.
Out: tables, figures, players, pages and metrics.json. Nothing here trains a model.
May not import: studies, prepare or commands.

    templates/, page.py        Jinja templates and style sheets -> HTML fragments and offline pages; notebooks as pages
    strip.py                   git filter that removes notebook outputs before a commit
    figures.py, tables.py      rows, histories and intervals -> figures; -> formatted numbers and tables
    listening.py               selection of test mixtures to listen to; their audio, spectrograms and players
    show.py, show_arms.py      what a notebook displays about one arm; about a comparison and its costs
    contract.py, report.py     the schema of metrics.json; report folders and the content of metrics.json
    collect.py                 find all reports; compare two reports or two runs on one page
    summary.py, gallery.py     the plan's claims next to the measurements; the index and the tables of README.md
"""
