from fairshare_locust.matrix.cells import expand
from fairshare_locust.matrix.machine import refuse
from fairshare_locust.serving.doctor import Diagnosis, Readiness
from tests.matrix.experiments import BASE, experiment

REAL = BASE.replace("name: simulated", "name: some/model").replace("engine: simulator", "engine: vllm")


def looked() -> Diagnosis:
    lacking = ("no engine on PATH, and no docker", "no GPU: no driver")
    modes = (
        Readiness("mps", "MPS", lacking),
        Readiness("logical", "logical", lacking),
        Readiness("mig", "MIG", ()),
    )
    return Diagnosis((), None, None, None, (), (), None, modes)


def test_a_mode_is_refused_with_what_the_machine_lacks_for_it() -> None:
    cells = refuse(expand(experiment("sharing: [logical, mps, mig]\nrepeats: 1", REAL)), looked)
    assert {cell.sharing: cell.refused for cell in cells} == {"logical": "", "mps": "no GPU: no driver", "mig": ""}


def test_the_simulator_needs_no_machine() -> None:
    cells = expand(experiment("sharing: [logical, mps]\nrepeats: 1"))

    def never() -> Diagnosis:
        raise AssertionError("asked")

    assert refuse(cells, never) == cells
