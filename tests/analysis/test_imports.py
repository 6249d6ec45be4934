"""What the package loads, and when."""

from __future__ import annotations

import subprocess
import sys

import analysis


def loaded_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_part_imports_locust_or_gevent() -> None:
    everything = (
        "import pkgutil, importlib, analysis\n"
        "for module in pkgutil.walk_packages(analysis.__path__, 'analysis.'): importlib.import_module(module.name)"
    )
    loaded = loaded_by(everything)
    assert {"analysis.report.build", "analysis.figures.tails", "analysis.__main__"} <= loaded
    assert loaded.isdisjoint({"locust", "gevent", "fairshare_locust.users", "fairshare_locust.plugin"})


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert loaded_by("import analysis").isdisjoint({"numpy", "pyarrow", "matplotlib", "jinja2", "rich", "scipy"})


def test_matplotlib_loads_when_a_figure_is_drawn() -> None:
    loaded = loaded_by("import analysis.report.build")
    assert "analysis.figures" in loaded
    assert "matplotlib" not in loaded


def test_public_names_are_there() -> None:
    assert analysis.__all__ == ["report_run"]
    assert callable(analysis.report_run)
