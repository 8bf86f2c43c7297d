"""A run that meets a code server on its way out, by a real one that still has a run."""

import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import PythonFileTarget

from backfill_pipeline.defs.launching import PatientRunLauncher

CODE = """
import time
from pathlib import Path
import dagster as dg

@dg.op
def waits():
    while not Path({gate!r}).exists():
        time.sleep(0.05)

@dg.job
def waiting():
    waits()
"""


def submitted(instance: dg.DagsterInstance, workspace: WorkspaceRequestContext) -> dg.DagsterRun:
    job = workspace.get_code_location("code").get_repository("__repository__waiting").get_full_job("waiting")
    made = dg.DagsterRun(
        "waiting",
        status=dg.DagsterRunStatus.STARTING,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
    )
    return instance.add_run(made)


def launch(launcher: RunLauncher, instance: dg.DagsterInstance, workspace: WorkspaceRequestContext) -> dg.DagsterRun:
    launcher.register_instance(instance)
    run = submitted(instance, workspace)
    launcher.launch_run(LaunchRunContext(run, workspace))
    return run


def test_a_run_refused_by_a_server_on_its_way_out_is_one_that_found_none_and_goes_back_into_the_queue(
    tmp_path: Path,
) -> None:
    gate, code = tmp_path / "gate", tmp_path / "code.py"
    code.write_text(CODE.format(gate=str(gate)), encoding="utf-8")
    target = PythonFileTarget(str(code), attribute=None, working_directory=None, location_name="code")
    with dg.instance_for_test() as instance, WorkspaceProcessContext(instance, target) as process:
        workspace = process.create_request_context()
        running = launch(PatientRunLauncher(), instance, workspace)
        location = workspace.get_code_location("code")
        assert isinstance(location, GrpcServerCodeLocation)
        location.client.shutdown_server()

        with pytest.raises(DagsterUserCodeUnreachableError, match="the code server is being replaced"):
            launch(PatientRunLauncher(), instance, workspace)
        with pytest.raises(DagsterLaunchFailedError):  # by which Dagster's queue takes the run for failed
            launch(dg.DefaultRunLauncher(), instance, workspace)

        gate.touch()
        deadline = time.monotonic() + 60
        while (found := instance.get_run_by_id(running.run_id)) is not None and not found.is_finished:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found is not None
        assert found.is_success
