"""`nvidia-smi` and `nvidia-cuda-mps-control`, faked: a GPU whose state stands in the folder FAKE_GPU.

`gpu.json` there says what GPU it is, which slices it has, who uses it, and how it misbehaves (`faults`):

no_permission   MIG is managed by root alone
in_use          instances can't be destroyed for a while: as often as `busy_for` says
mps_dies        the MPS daemon ends at once
mps_deaf        it makes its socket, and no command reaches it
mps_forgets     its list lacks one of the clients
mps_fault       its server is in state FAULT
mps_stays       it does not quit

Clients of MPS are files `clients/PID` in the pipe directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["FakeGpu", "install", "main"]

_ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """#!{python} -S
import os, sys
sys.path[:0] = [{root!r}, *{path!r}]
from tests.serving.fakes.gpu import main
main({name!r}, sys.argv[1:])
"""
# name → (number, eighths of memory, sevenths of the SMs, places to start): of an H100 with 80 GB
_PROFILES: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "1g.10gb": (19, 1, 1, (0, 1, 2, 3, 4, 5, 6)),
    "1g.10gb+me": (20, 1, 1, (0, 1, 2, 3, 4, 5, 6)),
    "2g.20gb": (14, 2, 2, (0, 2, 4)),
    "3g.40gb": (9, 4, 3, (0, 4)),
    "4g.40gb": (5, 4, 4, (0,)),
    "7g.80gb": (0, 8, 7, (0,)),
}
_CI_PROFILES = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4}  # sevenths → number of the compute profile that takes all of them


def install(folder: Path, *names: str) -> None:
    """Put the programs into the folder, which is to stand on PATH."""
    for name in names or ("nvidia-smi", "nvidia-cuda-mps-control"):
        script = folder / name
        script.write_text(_SCRIPT.format(python=sys.executable, root=str(_ROOT), path=sys.path[1:], name=name))
        script.chmod(0o755)


class FakeGpu:
    """The state of the faked GPU, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "gpu.json"

    def make(self, **values: Any) -> None:
        """A GPU, an H100 unless told otherwise."""
        self.folder.mkdir(parents=True, exist_ok=True)
        plain = {
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-11111111-2222-3333-4444-555555555555",
            "memory_mib": 81559,
            "compute_mode": "Default",
            "mig": "Disabled",
            "mig_pending": None,
            "instances": [],
            "users": [],
            "faults": [],
            "busy_for": 0,
            "said": [],
        }
        self.write({**plain, **values})

    def read(self) -> dict[str, Any]:
        """All of it."""
        content: dict[str, Any] = json.loads(self._file.read_bytes())
        return content

    def write(self, content: dict[str, Any]) -> None:
        """All of it."""
        new = self._file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(content))
        new.replace(self._file)

    def set(self, **values: Any) -> None:
        """Some of it."""
        self.write({**self.read(), **values})

    def add_slices(self, *profiles: str) -> None:
        """Slices as somebody has made them before, each with a compute instance that takes all of it."""
        state = self.read()
        state["mig"] = "Enabled"
        for profile in profiles:
            assert _place(state, profile, None, whole=True) is not None, profile
        self.write(state)

    def slice_uuids(self) -> list[str]:
        """Of the slices, as CUDA names them."""
        return [uuid for _, _, uuid in _devices(self.read())]


def main(name: str, argv: Sequence[str]) -> NoReturn:
    """Be the program of this name."""
    gpu = FakeGpu(Path(os.environ["FAKE_GPU"]))
    sys.exit((_smi if name == "nvidia-smi" else _mps_control)(gpu, list(argv)))


# --- nvidia-smi


def _smi(gpu: FakeGpu, argv: list[str]) -> int:
    state = gpu.read()
    if argv == ["-L"]:
        print(f"GPU 0: {state['name']} (UUID: {state['uuid']})")
        for index, profile, uuid in _devices(state):
            print(f"  MIG {profile:<11} Device  {index}: (UUID: {uuid})")
        return 0
    if not argv:
        _print_table(state)
        return 0
    if argv[0] == "mig":
        state["said"].append(argv)
        gpu.write(state)
        return _mig(gpu, state, argv[1:])
    if argv[0].startswith("--query-gpu="):
        assert argv[1] in ("--format=csv,noheader", "--format=csv,noheader,nounits"), argv
        values = {
            "index": "0",
            "uuid": state["uuid"],
            "name": state["name"],
            "driver_version": "610.43.02",
            "compute_mode": state["compute_mode"],
            "memory.total": str(state["memory_mib"]) + ("" if argv[1].endswith("nounits") else " MiB"),
            "mig.mode.current": state["mig"] or "[N/A]",
            "mig.mode.pending": state["mig_pending"] or state["mig"] or "[N/A]",
        }
        print(", ".join(values[key] for key in argv[0].partition("=")[2].split(",")))
        return 0
    if argv == ["--query-compute-apps=pid", "--format=csv,noheader"]:
        for user in state["users"]:
            print(user["pid"])
        return 0
    print(f"Invalid combination of input arguments. Please run 'nvidia-smi -h' for help. {argv}")
    return 2


def _devices(state: dict[str, Any]) -> list[tuple[int, str, str]]:
    """(index, profile, UUID) of each compute instance."""
    found: list[tuple[int, str, str]] = []
    for instance in sorted(state["instances"], key=lambda one: int(one["id"])):
        for inside in instance["inside"]:
            ordinal = f"{instance['id']:04d}-{inside['id']:012d}"
            profile = instance["profile"] if inside["whole"] else f"1c.{instance['profile']}"
            found.append((len(found), profile, f"MIG-aaaaaaaa-bbbb-cccc-{ordinal}"))
    return found


def _print_table(state: dict[str, Any]) -> None:
    print("+-----------------------------------------------------------------------------------------+")
    print("| NVIDIA-SMI 610.43.02              Driver Version: 610.43.02      CUDA Version: 13.4     |")
    print(f"|   0  {state['name']:<26}     On |   00000000:4E:00.0 Off |                    0 |")
    print("| N/A   30C    P0             71W /  700W |       1MiB /  81559MiB |     N/A      Default |")
    ids = {}
    if state["mig"] == "Enabled":
        print("| MIG devices:                                                                            |")
        print("| GPU  GI  CI  MIG |              Shared Memory-Usage |        Vol|        Shared         |")
        index = 0
        for instance in sorted(state["instances"], key=lambda one: int(one["id"])):
            for inside in instance["inside"]:
                ids[index] = (instance["id"], inside["id"])
                numbers = f"{instance['id']:>3}  {inside['id']:>2}  {index:>2}"
                print(f"|  0  {numbers}  |              44MiB / 40448MiB    | 60      0 |  3   0    3    0    3 |")
                print("|                  |                 0MiB / 65535MiB  |           |                       |")
                index += 1
    print("| Processes:                                                                              |")
    print("|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |")
    for user in state["users"]:
        gi, ci = ids.get(user.get("slice"), ("N/A", "N/A"))
        print(f"|    0  {gi!s:>3}  {ci!s:>3} {user['pid']:>16} {user.get('type', 'C'):>6}   python3     1024MiB |")
    if not state["users"]:
        print("|  No running processes found                                                             |")


def _mig(gpu: FakeGpu, state: dict[str, Any], argv: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="nvidia-smi mig", allow_abbrev=False, add_help=False)
    parser.add_argument("-i", required=True, choices=["0"])
    for flag in ("-lgip", "-lgi", "-lci", "-dgi", "-dci", "-C"):
        parser.add_argument(flag, action="store_true")
    for flag in ("-cgi", "-cci", "-gi", "-ci"):
        parser.add_argument(flag)
    told = parser.parse_args(argv)
    if state["mig"] is None:
        print("No MIG-supported devices found.")
        return 6
    if told.lgip:
        for name, (number, memory, _, places) in _PROFILES.items():
            free = sum(_fits(state, place, memory) for place in places)
            print(f"|   0  MIG {name:<14}{number:>4}   {free:>3}/{len(places)}        {memory * 9.75:.2f}      No |")
        return 0
    if told.lgi or told.lci:
        return _list(state, told.lci)
    if state["mig"] != "Enabled":
        print("MIG mode is not enabled on GPU  0.")
        return 3
    if "no_permission" in state["faults"]:
        print("Unable to manage instances on GPU  0: Insufficient Permissions")
        return 4
    if told.cgi:
        return _create(gpu, state, told.cgi, told.C)
    if told.cci:
        return _create_inside(gpu, state, int(told.gi), told.cci)
    return _destroy(gpu, state, told)


def _list(state: dict[str, Any], inside: bool) -> int:
    rows = []
    for one in state["instances"]:
        if not inside:
            size = _PROFILES[one["profile"]][1]
            place = f"{one['start']}:{size}"
            rows.append(f"|   0  MIG {one['profile']:<15}{one['number']:>4}{one['id']:>9}          {place:<8} |")
            continue
        for each in one["inside"]:
            numbers = f"{each['number']:>4}{each['id']:>9}       {each['start']}:1"
            rows.append(f"|   0 {one['id']:>6}       MIG {one['profile']:<15}{numbers:<28} |")
    if not rows:
        print(f"No {'compute' if inside else 'GPU'} instances found: Not Found")
        return 6
    print("+-------------------------------------------------------+")
    print("\n".join(rows))
    return 0


def _fits(state: dict[str, Any], start: int, size: int) -> bool:
    taken = set()
    for one in state["instances"]:
        taken |= set(range(one["start"], one["start"] + _PROFILES[one["profile"]][1]))
    return not taken & set(range(start, start + size))


def _place(state: dict[str, Any], profile: str, start: int | None, whole: bool) -> dict[str, Any] | None:
    """A new instance, at the first place that is free, as the driver does; so a small one first is in the way."""
    number, memory, sms, places = _PROFILES[profile]
    for place in places if start is None else (start,):
        if _fits(state, place, memory):
            ids = {one["id"] for one in state["instances"]}
            made = {
                "id": next(one for one in range(1, 15) if one not in ids),
                "profile": profile,
                "number": number,
                "start": place,
                "inside": [{"id": 0, "number": _CI_PROFILES[sms], "start": 0, "whole": True}] if whole else [],
            }
            state["instances"].append(made)
            return made
    return None


def _create(gpu: FakeGpu, state: dict[str, Any], asked: str, whole: bool) -> int:
    names = {str(number): name for name, (number, *_) in _PROFILES.items()}
    for one in asked.split(","):
        profile, _, start = one.partition(":")
        profile = names.get(profile, profile)
        if profile not in _PROFILES:
            print(f"Unknown profile {profile}: Invalid Argument")
            return 2
        made = _place(state, profile, int(start) if start else None, whole)
        if made is None:
            print(
                f"Unable to create a GPU instance on GPU  0 using profile {_PROFILES[profile][0]}: Insufficient "
                "Resources\nFailed to create GPU instances: Insufficient Resources"
            )
            gpu.write(state)  # those before it stay
            return 19
        print(f"Successfully created GPU instance ID {made['id']:>2} on GPU  0 using profile MIG {profile}")
    gpu.write(state)
    return 0


def _create_inside(gpu: FakeGpu, state: dict[str, Any], instance: int, asked: str) -> int:
    [one] = [each for each in state["instances"] if each["id"] == instance]
    sms = _PROFILES[one["profile"]][2]
    for text in asked.split(","):
        whole = int(text) == _CI_PROFILES[sms]
        index = len(one["inside"])
        one["inside"].append({"id": index, "number": int(text), "start": index, "whole": whole})
        print(f"Successfully created compute instance ID {index:>2} on GPU  0 GPU instance ID {instance:>2}")
    gpu.write(state)
    return 0


def _destroy(gpu: FakeGpu, state: dict[str, Any], told: Any) -> int:
    assert told.dci or told.dgi
    if state["busy_for"] > 0:
        gpu.set(busy_for=state["busy_for"] - 1)
        print("Unable to destroy instance on GPU  0: In use by another client")
        return 19
    [one] = [each for each in state["instances"] if each["id"] == int(told.gi)]
    if told.dci:
        one["inside"] = [each for each in one["inside"] if each["id"] != int(told.ci)]
    elif one["inside"]:
        print(f"Unable to destroy GPU instance ID {told.gi} from GPU 0: In use by another client")
        return 19
    else:
        state["instances"].remove(one)
    gpu.write(state)
    print("Successfully destroyed instance")
    return 0


# --- nvidia-cuda-mps-control


def _mps_control(gpu: FakeGpu, argv: list[str]) -> int:
    pipes = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/nonexistent"))
    if argv == ["-f"]:
        return _mps_daemon(gpu, pipes)
    assert argv == [], argv
    import socket

    asked = sys.stdin.read()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(pipes / "control"))
        except OSError:
            print("Cannot find MPS control daemon process")
            return 1
        connection.sendall(asked.encode())
        connection.shutdown(socket.SHUT_WR)
        if "mps_deaf" in gpu.read()["faults"]:
            print("Failed to send command to MPS control daemon")
            return 1
        while answer := connection.recv(4096):
            sys.stdout.write(answer.decode())
    return 0


def _mps_daemon(gpu: FakeGpu, pipes: Path) -> int:
    import socket
    import subprocess

    faults = gpu.read()["faults"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu.read()["uuid"], "indices are counted anew by clients"
    assert pipes.is_dir(), pipes
    logs = Path(os.environ["CUDA_MPS_LOG_DIRECTORY"])
    (logs / "control.log").write_text("Starting control daemon\n")
    (logs / "server.log").write_text("")
    if "mps_dies" in faults:
        print("An instance of this daemon is already running")
        return 1
    if len(str(pipes / "control_privileged")) > 107:
        return 0  # and not a word
    (pipes / "nvidia-cuda-mps-control.pid").write_text(str(os.getpid()))
    server: subprocess.Popen[bytes] | None = None
    if "mps_stays" in faults:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(pipes / "control"))
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection:
                command = connection.makefile().read().split()
                if "mps_deaf" in faults:
                    continue
                clients = _clients(pipes)
                if clients and server is None:  # the first client brings it into being
                    server = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
                if "mps_forgets" in faults:
                    clients = clients[:-1]
                if command == ["quit"] and "mps_stays" not in faults:
                    break
                connection.sendall(_mps_answer(command, server, clients, faults).encode())
    for name in ("control", "nvidia-cuda-mps-control.pid"):
        (pipes / name).unlink()
    if server is not None:
        server.kill()
        server.wait()
    return 0


def _mps_answer(command: list[str], server: Any, clients: list[int], faults: list[str]) -> str:
    if command == ["get_server_list"]:
        return "" if server is None else f"{server.pid}\n"
    if command == ["get_default_active_thread_percentage"]:
        return "100.0\n"
    if server is None or len(command) != 2 or command[1] != str(server.pid):
        return ""
    if command[0] == "get_server_status":
        return "FAULT\n" if "mps_fault" in faults else "ACTIVE\n"
    return "".join(f"{pid}\n" for pid in clients) if command[0] == "get_client_list" else ""


def _clients(pipes: Path) -> list[int]:
    """Clients that live."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        found = [int(file.name) for file in sorted((pipes / "clients").iterdir()) if Path("/proc", file.name).exists()]
    return found
