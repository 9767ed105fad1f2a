"""Several processes as one: finding each other, and agreeing.

Nothing but `init_distributed` does anything in a single process.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from tttlrm_jax.core.errors import ConfigError, InputError

VARIABLES = ("TTTLRM_COORDINATOR", "TTTLRM_NUM_PROCESSES", "TTTLRM_PROCESS_ID")
MEETING_SECONDS = 3600
AUTOMATIC = "auto"  # as TTTLRM_COORDINATOR: JAX is to ask the cluster, as on a TPU pod's hosts
DEVICES_USED = "must be called before any JAX"  # in the words of JAX
HEARTBEAT_SECONDS = 100  # after which a silent process counts as dead


def init_distributed(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 300,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Joins the processes of a job; call it before any of JAX's devices is used.

    Settings come from the arguments, else from `TTTLRM_COORDINATOR` (HOST:PORT of process 0),
    `TTTLRM_NUM_PROCESSES` and `TTTLRM_PROCESS_ID`, else from SLURM, Kubernetes or a TPU pod where
    `detected` finds one, else the process stays alone. Where JAX has joined a job already, through
    this or through `jax.distributed.initialize`, it stays in it; `num_processes` and `process_id`,
    where set, then have to be those of that job.

    Raises ConfigError for incomplete settings, those of another job than the one joined and where
    devices have been used already, InputError naming the coordinator where the processes have not
    met after `timeout` seconds.
    """
    if jax.distributed.is_initialized():
        _check_joined(num_processes, process_id)
        _check_joined(*_from_environment(environment)[1:])
        return
    if coordinator is None:
        coordinator, num_processes, process_id = _from_environment(environment)
    if coordinator in (None, AUTOMATIC):
        if coordinator is None and not detected(environment):
            return
        _initialize("the one the cluster names", timeout)
        return
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ConfigError(
            f"process_id={process_id} of num_processes={num_processes} is no process; give a "
            "number from 0 to num_processes - 1"
        )
    if ":" not in coordinator:
        raise ConfigError(f"coordinator={coordinator} has no port; give HOST:PORT of process 0")
    if num_processes > 1:
        _initialize(
            coordinator, timeout, coordinator_address=coordinator, num_processes=num_processes,
            process_id=process_id,
        )  # fmt: skip


def _check_joined(num_processes: int | None, process_id: int | None) -> None:
    """Raises ConfigError where these are not those of the job that JAX has joined."""
    wanted = {"num_processes": num_processes, "process_id": process_id}
    joined = {"num_processes": jax.process_count(), "process_id": jax.process_index()}
    for name, value in wanted.items():
        if value not in (None, joined[name]):
            raise ConfigError.of(
                name, value, f"is not the {joined[name]} of the job that JAX has joined already",
                "leave the settings out, or do not call jax.distributed.initialize before",
            )  # fmt: skip


def detected(environment: Mapping[str, str] = os.environ) -> str | None:
    """Name of the cluster whose job, of several processes, this is one of; None for none."""
    if _is_slurm_task(environment):
        return "SLURM"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOBSET_NAME" in environment:
        return "Kubernetes"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return "TPU"
    return None


def _is_slurm_task(environment: Mapping[str, str]) -> bool:
    """Whether `srun` started this with others. A batch script's own shell has the job's
    SLURM_NTASKS and a SLURM_PROCID as well, but no numbered step."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    return (
        "SLURM_PROCID" in environment
        and environment.get("SLURM_STEP_ID", "").isdigit()
        and tasks.isdigit()
        and int(tasks) > 1
    )


def _from_environment(environment: Mapping[str, str]):
    values = [environment.get(name) for name in VARIABLES]
    if not any(values) or values[0] == AUTOMATIC:
        return values[0], None, None
    missing = [name for name, value in zip(VARIABLES, values, strict=True) if not value]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is not set; set all of {', '.join(VARIABLES)}")
    address, *numbers = values
    try:
        return address, *(int(number or "") for number in numbers)
    except ValueError:
        raise ConfigError(
            f"{VARIABLES[1]}, {VARIABLES[2]}={numbers} are no whole numbers; correct them"
        ) from None


def _initialize(named: str, timeout: int, **settings) -> None:
    """`jax.distributed.initialize`, which ends the process when its own time-out passes: it is
    given twice the time, and waited for half of it.

    JAX then catches SIGTERM for its preemption service, which is not used here: `StopRequest` asks
    the processes itself. The service cannot be switched off (`jax_enable_preemption_service`), as
    Orbax before 0.12 asks it at every save and fails without; so the signal is taken back.
    """
    failure: list[BaseException] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                **settings,
                initialization_timeout=2 * timeout + 60,
                heartbeat_timeout_seconds=min(HEARTBEAT_SECONDS, timeout),
            )
        except Exception as error:  # handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=connect, daemon=True, name="init_distributed")
    thread.start()
    thread.join(timeout)
    _take_back(signal.SIGTERM)
    if failure and DEVICES_USED in str(failure[0]):
        raise ConfigError.of(
            "coordinator", named, "cannot be met once JAX's devices have been used",
            "call init_distributed, or jax.distributed.initialize, before any computation",
        )  # fmt: skip
    if thread.is_alive() or failure:
        reason = f": {str(failure[0]).splitlines()[0]}" if failure else f" after {timeout} s"
        raise InputError.of(
            "coordinator", named, f"has not brought all processes together{reason}",
            "check that it is reachable and that every process was started, or raise mesh.timeout",
        )  # fmt: skip


def _take_back(number: signal.Signals) -> None:
    """Puts Python's handler of a signal in place again, after another library has replaced it."""
    handler = signal.getsignal(number)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


_meetings: dict[str, int] = {}  # a barrier of the coordinator can be used once


def is_first_process() -> bool:
    """Whether this one writes what is written once."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Waits until all processes have come here, for an hour at most.

    Through the coordinator, not the devices: these give up after half a minute on CPUs. Where a
    JAX has no such barrier any more, through the devices all the same.
    """
    if jax.process_count() == 1:
        return
    number = _meetings[name] = _meetings.get(name, 0) + 1
    label = f"tttlrm {name} {number}"
    wait = _coordinator_barrier()
    if wait is None:
        multihost_utils.sync_global_devices(label)
    else:
        wait(label, MEETING_SECONDS * 1000)


def _coordinator_barrier() -> Callable[[str, int], None] | None:
    """The coordinator's barrier; a private name of JAX, which has no public one."""
    try:
        from jax._src.distributed import global_state

        return getattr(global_state.client, "wait_at_barrier", None)
    except (ImportError, AttributeError):
        return None


@contextlib.contextmanager
def begun_together() -> Iterator[None]:
    """What every process has to get through before they compute together.

    Raises InputError in all of them where it is raised in one, which the others else wait for.
    """
    refused: list[InputError] = []
    try:
        yield
    except InputError as error:
        refused.append(error)
    refusals = largest_of_processes(len(refused))
    if refused:
        raise refused[0]
    if refusals:
        raise InputError("another process of this job refused its input; see what that one says")


def largest_of_processes(number: int) -> int:
    """The largest of one number of each process: all get the same."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def host_value(array: jax.Array) -> np.ndarray:
    """An array of all processes on this one's host."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
