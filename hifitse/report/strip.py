"""A git filter: a notebook as JupyterLab saves it -> as it is committed, without outputs. The first ``make`` sets it up.

    python -m hifitse.report.strip <saved.ipynb >committed.ipynb

Without it, or without git, notebooks work as they are.
"""

import json
import sys

TIMES = ("execution", "collapsed", "scrolled", "trusted", "papermill", "ExecuteTime")
"""Metadata of a cell that tell of one run or one window."""


def stripped(text: str) -> str:
    """A notebook's JSON without outputs and what depends on the machine; text that is no notebook comes back as it is."""
    try:
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name not in TIMES}
            cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
        about = {name: value for name, value in notebook["metadata"].items() if name not in ("widgets", "papermill")}
        if about.get("kernelspec", {}).get("name") == "python3":
            kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
            about |= {"kernelspec": kernel, "language_info": {"name": "python"}}
        notebook["metadata"] = about
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return text
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(stripped(sys.stdin.buffer.read().decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))
