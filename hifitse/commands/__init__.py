"""The commands of ``hifitse`` and the interactive panel.

In: a command line, or a click in the panel.
Out: files, and an exit code.
May import every room.

    cli.py          the command ``hifitse``: exit codes, and prepare, export, compare, gallery, runs, params, scenes, score
    run.py extract.py sitting.py    its longer commands; doctor.py: what an enrolment is worth; headless.py: papermill without noise
    exporting.py    a finished run -> a model's folder with its card
    explore.py      the interactive panel; trial.py: a test mixture changed by hand, and one extraction from it
"""
