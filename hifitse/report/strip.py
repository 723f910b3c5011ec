"""Git filter that strips outputs from notebooks saved by JupyterLab before they are committed. The first ``make`` installs it.

    python -m hifitse.report.strip <saved.ipynb >committed.ipynb

Notebooks work without the filter and without git.
"""

import json
import sys

TIMES = ("execution", "collapsed", "scrolled", "trusted", "papermill", "ExecuteTime")
"""Cell metadata that describe a single run or window."""


def stripped(text: str) -> str:
    """Return a notebook's JSON without outputs and machine-dependent metadata. Text that is not a notebook is returned unchanged."""
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
