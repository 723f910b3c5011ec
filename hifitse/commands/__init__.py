"""The commands of ``hifitse`` and the interactive panel.

In: a command line, or a click in the panel.
Out: files, and an exit code.
May import every room.

    cli.py          the command ``hifitse``: exit codes, and export, compare, gallery, runs, params, scenes, score
    run.py extract.py prepare.py sitting.py    its longer commands; places.py, doctor.py: files and enrolments of extract
    runs.py         the list of trainings; readme.py: the numbers of README.md
    exporting.py    a finished run -> a model's folder; model_card.py: the text that goes with it
    explore.py      the interactive panel; scene.py, trial.py: a test mixture changed by hand, and one extraction from it
"""
