"""The Kubernetes manifest: by Kubernetes' own schemas, and what no schema sees. Needs no cluster."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from fairshare_locust.distributed.likeness import profile_files
from fairshare_locust.profile import Profile, load_profile

_REPOSITORY = Path(__file__).resolve().parents[2]
_TEXT = (_REPOSITORY / "deploy" / "k8s.yaml").read_text()
_OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(_TEXT)
}
_MASTER = _OBJECTS["Job", "fairshare-master"]["spec"]["template"]
_WORKER = _OBJECTS["Deployment", "fairshare-worker"]["spec"]["template"]
_SERVICE = _OBJECTS["Service", "fairshare-master"]["spec"]
_PODS = pytest.mark.parametrize("pod", [_MASTER, _WORKER], ids=["master", "worker"])

# Locust's whole command line, as the process in the container reads it.
_PARSE = """
import json, locust, sys
from locust.argument_parser import get_parser
from fairshare_locust.options import add_options

locust.events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser))
print(json.dumps([vars(get_parser().parse_args(arguments)) for arguments in json.load(sys.stdin)], default=str))
"""


def container(pod: dict[str, Any]) -> dict[str, Any]:
    [only] = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Locust makes of the master's and of the worker's arguments."""
    home = tmp_path_factory.mktemp("home")  # no configuration file of whoever runs the test
    done = subprocess.run(
        [sys.executable, "-c", _PARSE],
        input=json.dumps([container(pod)["args"] for pod in (_MASTER, _WORKER)]),
        capture_output=True,
        text=True,
        cwd=home,
        env={"HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    master, worker = json.loads(done.stdout)
    return master, worker


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ConfigMap as a folder."""
    folder = tmp_path_factory.mktemp("profile")
    for name, text in _OBJECTS["ConfigMap", "fairshare-profile"]["data"].items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def profile(mounted: Path) -> Profile:
    return load_profile(mounted / "profile.yaml")


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("name", list(_OBJECTS), ids="/".join)
def test_each_object_is_one_of_kubernetes(name: tuple[str, str], version: str) -> None:
    kubernetes_validate.validate(_OBJECTS[name], version, strict=True)


def test_a_key_that_kubernetes_does_not_know_is_noticed() -> None:
    wrong = json.loads(json.dumps(_OBJECTS["Job", "fairshare-master"]))
    wrong["spec"]["template"]["spec"]["restartpolicy"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_workers_find_the_master(options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    master, worker = options
    [service_port] = _SERVICE["ports"]
    [container_port] = container(_MASTER)["ports"]
    assert _SERVICE["selector"].items() <= _MASTER["metadata"]["labels"].items()
    assert not _SERVICE["selector"].items() <= _WORKER["metadata"]["labels"].items()
    assert worker["master_host"] == "fairshare-master"
    assert worker["master_port"] == service_port["port"]
    assert service_port["targetPort"] == container_port["name"]
    assert container_port["containerPort"] == master["master_bind_port"]
    assert (master["master"], master["worker"]) == (True, False)
    assert (worker["master"], worker["worker"]) == (False, True)


def test_only_workers_reach_the_master() -> None:
    policy = _OBJECTS["NetworkPolicy", "fairshare-master"]["spec"]
    [rule] = policy["ingress"]
    [peer] = rule["from"]
    assert policy["podSelector"]["matchLabels"] == _MASTER["metadata"]["labels"]
    assert peer == {"podSelector": {"matchLabels": _WORKER["metadata"]["labels"]}}
    assert rule["ports"] == [{"port": container(_MASTER)["ports"][0]["containerPort"]}]


def test_the_deployment_has_as_many_workers_as_the_master_expects(
    options: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    deployment = _OBJECTS["Deployment", "fairshare-worker"]["spec"]
    assert deployment["replicas"] == options[0]["expect_workers"]
    assert deployment["selector"]["matchLabels"] == _WORKER["metadata"]["labels"]
    [spread] = _WORKER["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == _WORKER["metadata"]["labels"]


@_PODS
def test_mounts_and_volumes_belong_together(pod: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert sorted(mount["name"] for mount in container(pod)["volumeMounts"]) == sorted(volumes)
    assert ("ConfigMap", volumes["profile"]["configMap"]["name"]) in _OBJECTS


def test_runs_are_kept_and_workers_copies_are_not() -> None:
    [master, worker] = ({volume["name"]: volume for volume in pod["spec"]["volumes"]} for pod in (_MASTER, _WORKER))
    assert ("PersistentVolumeClaim", master["runs"]["persistentVolumeClaim"]["claimName"]) in _OBJECTS
    assert worker["runs"] == {"name": "runs", "emptyDir": {}}


def test_what_is_written_to_is_mounted(options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for pod, parsed in zip((_MASTER, _WORKER), options, strict=True):
        mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
        assert container(pod)["securityContext"]["readOnlyRootFilesystem"]
        assert not mounts[parsed["fairshare_out"]].get("readOnly")
        assert "/tmp" in mounts
        assert (_REPOSITORY / parsed["locustfile"]).is_file()


def test_the_profile_is_one(options: tuple[dict[str, Any], dict[str, Any]], mounted: Path, profile: Profile) -> None:
    """Master and workers have the profile and its files at the same path."""
    folder, name = options[0]["fairshare_profile"].rsplit("/", 1)
    assert name in _OBJECTS["ConfigMap", "fairshare-profile"]["data"]
    for pod in (_MASTER, _WORKER):
        assert {"name": "profile", "mountPath": folder, "readOnly": True} in container(pod)["volumeMounts"]
    assert profile.deployment.engine == "external"
    assert {path.name for _, path in profile_files(profile)} == {path.name for path in mounted.iterdir()} - {name}


def test_no_secret_is_in_the_file(profile: Profile) -> None:
    names = {tenant.api_key_env for tenant in profile.tenants}
    assert names == {"LLM_API_KEY"}
    assert "Secret" not in {kind for kind, _ in _OBJECTS}
    assert not any(tenant.headers for tenant in profile.tenants)
    for pod in (_MASTER, _WORKER):
        assert "env" not in container(pod)
        assert container(pod)["envFrom"] == [{"secretRef": {"name": "fairshare-keys", "optional": True}}]
    [(secret, key, value)] = re.findall(r"create secret generic (\S+) --from-literal=(\w+)=(\S+)", _TEXT)
    assert (secret, {key}, value) == ("fairshare-keys", names, f'"${key}"')


@_PODS
def test_a_pod_has_its_cores_and_no_more_rights_than_it_needs(pod: dict[str, Any]) -> None:
    only = container(pod)
    assert only["resources"]["requests"] == only["resources"]["limits"]
    assert only["resources"]["limits"]["cpu"].isdecimal()  # whole ones
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_master_and_workers_differ_in_nothing_else() -> None:
    for key in ("affinity", "securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert _MASTER["spec"][key] == _WORKER["spec"][key]
    for key in ("image", "command", "envFrom", "securityContext", "volumeMounts"):
        assert container(_MASTER)[key] == container(_WORKER)[key]


def test_what_is_to_be_replaced_is_marked() -> None:
    made_up = [line for line in _TEXT.splitlines() if re.search(r"\w\.example\b", line) and "docker build" not in line]
    assert made_up
    assert all("# REPLACE" in line for line in made_up)
