"""The Dockerfile, as far as it can be looked at without building it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

_REPOSITORY = Path(__file__).resolve().parents[2]
_DOCKERFILE = (_REPOSITORY / "deploy" / "Dockerfile").read_text()
_COPIED = {
    source for line in re.findall(r"^COPY (?!--from)(.+)$", _DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]
}


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    ignore = (_REPOSITORY / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == _COPIED
    assert all((_REPOSITORY / source).exists() for source in _COPIED)


def test_everything_that_is_installed_is_copied() -> None:
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    files = {project["project"]["readme"], *project["project"]["license-files"]}
    assert packages | files | {"pyproject.toml", "requirements.txt", "locustfiles", "profiles"} == _COPIED


def test_the_manifest_runs_this_image_as_its_user() -> None:
    [image] = set(re.findall(r"docker build .* -t (\S+)", _DOCKERFILE))
    [user] = re.findall(r"^USER (\d+):\d+$", _DOCKERFILE, re.MULTILINE)
    for manifest in yaml.safe_load_all((_REPOSITORY / "deploy" / "k8s.yaml").read_text()):
        if manifest["kind"] in ("Job", "Deployment"):
            pod = manifest["spec"]["template"]["spec"]
            assert [one["image"] for one in pod["containers"]] == [image]
            assert pod["securityContext"]["runAsUser"] == int(user)
