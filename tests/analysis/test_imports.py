"""What the package loads, and when."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import analysis


@cache
def loaded_by(*statements: str) -> list[set[str]]:
    """Modules there are after each of these statements, one after the other in a process of its own."""
    program = "import sys\n" + "\n".join(f"{statement}\nprint(*sys.modules)" for statement in statements)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


EVERYTHING = (
    "import pkgutil, importlib, analysis\n"
    "for module in pkgutil.walk_packages(analysis.__path__, 'analysis.'): importlib.import_module(module.name)\n"
)
ORDER = ("import analysis", "import analysis.report.build", EVERYTHING)


def test_no_part_imports_locust_or_gevent() -> None:
    loaded = loaded_by(*ORDER)[2]
    assert {"analysis.report.build", "analysis.figures.tails", "analysis.__main__"} <= loaded
    assert loaded.isdisjoint({"locust", "gevent", "fairshare_locust.users", "fairshare_locust.plugin"})


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert loaded_by(*ORDER)[0].isdisjoint({"numpy", "pyarrow", "matplotlib", "jinja2", "rich", "scipy"})


def test_matplotlib_loads_when_a_figure_is_drawn() -> None:
    loaded = loaded_by(*ORDER)[1]
    assert "analysis.figures" in loaded
    assert "matplotlib" not in loaded


def test_public_names_are_there() -> None:
    assert analysis.__all__ == ["report_run"]
    assert callable(analysis.report_run)
